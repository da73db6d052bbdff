"""DICOM in: headers and stored pixels here; ``scan`` for folders of files, ``order`` for the slices of a series."""

from radstack.images.dicom.header import Header, Unreadable, fault, read_header
from radstack.images.dicom.pixels import invert, read_stored

__all__ = ["Header", "Unreadable", "fault", "invert", "read_header", "read_stored"]
