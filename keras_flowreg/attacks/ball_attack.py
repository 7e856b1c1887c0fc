"""An attack on a ball: what all attacks with a radius and a norm share."""

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack


class BallAttack(Attack):
    """An attack whose θ is searched in the ball of radius `epsilon` in the norm `norm`.

    A subclass sets both in its `__init__`, and gives what `Attack` asks for.

    ```python
    print(fr.attacks.FlowFGSM(0.4, norm="l2").ball.epsilon)
    ```
    """

    epsilon: float
    norm: str

    @property
    def ball(self) -> balls.Ball:
        return balls.get(self.norm, self.epsilon)
