"""How much one transaction takes: it should not take long, whatever plugins do in it, since others wait for it."""

#: A write transaction should not take longer than this, in seconds.
LONGEST = 1.0


class Pace:
    """The size of the next transaction, by how long those before it took.

    Args:
        size: of the first.
        least, most: of any.
        longest: seconds that one should not be over; where it is, the next is half as large.
    """

    def __init__(self, size: int, least: int, most: int, longest: float = LONGEST) -> None:
        self.size, self.least, self.most, self.longest = size, least, most, longest

    def note(self, seconds: float) -> None:
        """One took so long."""
        if seconds > self.longest:
            self.size = max(self.least, self.size // 2)
        elif seconds < self.longest / 4:
            self.size = min(self.most, 2 * self.size)
