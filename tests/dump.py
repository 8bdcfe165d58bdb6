"""What a database holds, in forms that can be compared; plugin authors have it too."""

from crmkit.testing.dump import OF_CHANGES, Dump, canonical, everything

__all__ = ["OF_CHANGES", "Dump", "canonical", "everything"]
