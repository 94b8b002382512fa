"""TLU-Net: transfer learning in joint steel-defect segmentation and classification.

Everything a script or a notebook needs can be imported from here: ``from tlunet import TLUNet``.
The names are listed in ``__init__.pyi``. Each is imported on first use, so the command line starts
fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
