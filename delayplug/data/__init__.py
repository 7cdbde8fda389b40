"""Recordings of spikes: reading them, binning them into frames, holding out a part for validation.

Read `recordings.Recordings` and `frames.Frames` first: events as they are in the files, and as networks take them.
`download` and `info` are what the command line offers, `known_data` names data sets, `cache` has frames on disk,
`splits` and `augment` are for training, `synthetic` is a task without files. A public name is imported from its module
when it is first used, so that `choices`, the words of the options, can be read without torch; where each name is
defined stands in `__init__.pyi`.

May import: errors and the tables and colours of the package; nothing else of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
