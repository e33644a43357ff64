"""CT volumes from the files people have: NIfTI, NRRD, MetaImage and DICOM series."""
