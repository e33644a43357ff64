"""Reading of CT volumes: NIfTI, NRRD, MetaImage, X2CT's HDF5 and DICOM series."""
