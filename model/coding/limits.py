"""How large symbols and what is predicted of them may be. No torch: the range coder needs it, too."""

ACTIVATION_UNIT = 16
LARGEST_SYMBOL = 255
LARGEST_MEAN = 255
LOG_SCALES = (-5 * ACTIVATION_UNIT, 6 * ACTIVATION_UNIT)  # of log2 of a scale, in units of 1/16
