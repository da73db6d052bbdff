"""DICOM in: headers and stored pixels here; ``scan`` for folders of files and the order of a series' slices."""

from radstack.images.dicom.file import NATIVE, Header, Unreadable, fault, invert, read_header, read_stored

__all__ = ["NATIVE", "Header", "Unreadable", "fault", "invert", "read_header", "read_stored"]
