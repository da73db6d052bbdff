"""DICOM in: headers and stored pixels here; ``scan`` for folders of files, ``series`` for the order of slices."""

from radstack.images.dicom.file import NATIVE, Header, Unreadable, fault, invert, read_header, read_stored

__all__ = ["NATIVE", "Header", "Unreadable", "fault", "invert", "read_header", "read_stored"]
