"""When an image was taken: moments as people write them, and as DICOM headers tell them."""

from __future__ import annotations

from datetime import date, time

import pytest
from pydicom.dataset import Dataset

from x2c.data.ingest.when import Moment, moment_of, parse_moment

pytestmark = pytest.mark.usefixtures("silent")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-31", Moment(date(2024, 5, 31))),
        ("20240531", Moment(date(2024, 5, 31))),
        (" 31.05.2024 ", Moment(date(2024, 5, 31))),
        ("2024-05-31 14:05", Moment(date(2024, 5, 31), time(14, 5))),
        ("2024-05-31T14:05:59", Moment(date(2024, 5, 31), time(14, 5, 59))),
    ],
)
def test_moments_as_people_write_them(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["", "31/05/2024", "2024-13-01", "yesterday", "2024111", "240531", "2024-05-31 25:00"])
def test_what_is_no_moment(text):
    with pytest.raises(ValueError, match=r"^expected a date$"):
        parse_moment(text)


def dated(**tags: str) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({}, None),
        ({"StudyDate": ""}, None),
        ({"StudyDate": "20240531", "StudyTime": "101530"}, Moment(date(2024, 5, 31), time(10, 15, 30))),
        ({"StudyDate": "20240531", "SeriesDate": "20240601"}, Moment(date(2024, 6, 1))),
        ({"SeriesDate": "20240601", "AcquisitionDate": "20240602"}, Moment(date(2024, 6, 2))),
        ({"StudyDate": "20240531", "AcquisitionDate": ""}, Moment(date(2024, 5, 31))),
        ({"StudyDate": "20240531", "StudyTime": "1015"}, Moment(date(2024, 5, 31), time(10, 15))),
        ({"StudyDate": "20240531", "StudyTime": "10"}, Moment(date(2024, 5, 31), time(10))),
        ({"StudyDate": "20240531", "StudyTime": "101530.123456"}, Moment(date(2024, 5, 31), time(10, 15, 30))),
    ],
)
def test_a_dicom_image_was_taken_when_it_was_acquired(tags, moment):
    assert moment_of(dated(**tags)) == moment


def test_hours_apart_go_both_ways_and_are_days_without_a_time():
    first, second = parse_moment("2024-05-31 22:00"), parse_moment("2024-06-01 01:30")
    assert first.hours_to(second) == second.hours_to(first) == 3.5
    assert first.hours_to(parse_moment("2024-06-01")) == 24
    assert parse_moment("2024-05-31").hours_to(first) == 0
