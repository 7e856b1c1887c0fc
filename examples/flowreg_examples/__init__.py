"""What the example scripts share: data sets, networks, recipes, studies and flags."""
