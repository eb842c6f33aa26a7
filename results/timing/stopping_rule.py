"""Constants of the rule by which sampling stops. The module needs no torch, so that plans and searches can use it."""

MIN_SAMPLES = 10  # below this a median's 95 % interval is the whole range of the samples
SETTLED_SPREAD = 0.005  # the design's 0.5 %: six times finer than the smallest slowdown worth an alarm
PLATEAU_SAMPLES = 20  # a noisy machine does not settle; it is done when this many samples
PLATEAU_CHANGE = 0.1  # have moved the spread by less than a tenth of itself
MAX_THROTTLED = 50  # a device that is throttled this often will not stop being so while it is being measured
MAX_DISTURBED = 50  # dropped samples of one competitor, for the same reason
DISTURBED_ROUNDS = 3  # in a row, each disturbed for half of its samples: one is chance, three are somebody who stays
QUIET_PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # waits for quiet: other work often ends in seconds, and a run has many points
VALID_SHARE = 0.5  # of the samples; beside somebody who hits most of them, the others are not as in quiet either
