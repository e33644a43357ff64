"""From patients' files to a prepared data set: read, judged, resampled, stored under pseudonyms, split."""
