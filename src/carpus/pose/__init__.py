"""Where every bone of a hand should be and how large, given where the others are.

The measured anatomy makes the 29 centroids one Gaussian: a bone varies within its parent's frame and carries its
children along. Given all bones but one, the Gaussian says where that one should lie and how surely; a label that
lies far off is misplaced, and two labels whose exchange makes the hand much likelier are swapped.

Dimension key: N bones of the anatomy. Points are (x, y up) in hands of unit length (Capitate to finger-11) with the
thumb on the left, unless they are called pixels. Distances are in standard deviations unless they have a unit.
"""

from carpus.pose.believed import FAR
from carpus.pose.drawn import Outlines, outlines
from carpus.pose.fitting import Fit, fit
from carpus.pose.side import thumb_left

__all__ = ["FAR", "Fit", "Outlines", "fit", "outlines", "thumb_left"]
