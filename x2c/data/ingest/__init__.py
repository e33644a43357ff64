"""CT volumes from the files people have: NIfTI, NRRD, MetaImage, X2CT's HDF5 and DICOM series."""
