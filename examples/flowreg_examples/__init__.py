"""What the example scripts are made of: studies and their reports, the leaderboard, tutorials."""
