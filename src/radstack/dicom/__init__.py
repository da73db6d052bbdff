"""DICOM in: headers and stored pixels here; ``scan`` for folders of files, ``order`` for the slices of a series."""

from radstack.dicom.fields import Header, Unreadable
from radstack.dicom.header import fault, read_header
from radstack.dicom.pixels import invert, read_stored

__all__ = ["Header", "Unreadable", "fault", "invert", "read_header", "read_stored"]
