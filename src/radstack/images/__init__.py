"""Reading and turning pictures: DICOM, radiographs, volumes, windows, masks, boxes, shards and views of them."""
