from __future__ import annotations

import os
from pathlib import Path

import icebus
from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_bytes, marker_image
from icebus.schemas.boards.images import directories, find_image, read_images


def write(path: Path, name: str = "icebus", version: str = "1", chip: Chip = Chip.RP2040) -> bytes:
    marker = FirmwareMarker(name=name, version=version, chip=chip)
    data = uf2.encode(bytes(300) + marker_bytes(marker), chip.family, uf2.FLASH_ADDRESS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def test_given_images_then_they_are_found_by_what_they_say_of_themselves(tmp_path: Path) -> None:
    here = write(tmp_path / "a.uf2", version="0.9.1")
    newer = write(tmp_path / "0.uf2", version="0.10.0")
    other = write(tmp_path / "b.uf2", chip=Chip.RP2350)
    found = find_image("icebus", Chip.RP2040, [tmp_path])
    assert found is not None
    assert (found.data, found.marker.version) == (newer, "0.10.0")
    assert here != newer
    found = find_image("icebus", Chip.RP2350, [tmp_path])
    assert found is not None
    assert found.data == other
    assert find_image("pulse_count", Chip.RP2040, [tmp_path]) is None


def test_given_what_is_no_image_of_a_real_board_then_it_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "good.uf2")
    (tmp_path / "bad.uf2").write_bytes(b"nonsense")
    (tmp_path / "empty.uf2").touch()
    (tmp_path / "gone.uf2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.uf2").mkdir()
    (tmp_path / "nameless.uf2").write_bytes(uf2.encode(b"x", uf2.RP2040, uf2.FLASH_ADDRESS))
    marker = FirmwareMarker(name="icebus", chip=Chip.RP2040)
    (tmp_path / "virtual.uf2").write_bytes(marker_image(marker))
    wrong = uf2.encode(marker_bytes(marker), uf2.RP2350_ARM, uf2.FLASH_ADDRESS)
    (tmp_path / "wrong.uf2").write_bytes(wrong)
    with (tmp_path / "large.uf2").open("wb") as large:
        large.truncate(1 << 30)
    assert [image.path.name for image in read_images([tmp_path, tmp_path / "nowhere"])] == [
        "good.uf2"
    ]


def test_given_an_image_that_is_replaced_then_the_new_one_is_found(tmp_path: Path) -> None:
    write(tmp_path / "a.uf2", version="1")
    assert find_image("icebus", Chip.RP2040, [tmp_path]) is not None
    new = write(tmp_path / "a.uf2", version="2.0.0")
    found = find_image("icebus", Chip.RP2040, [tmp_path])
    assert found is not None
    assert found.data == new


def test_given_a_folder_in_the_environment_then_it_goes_before_the_package_s(
    tmp_path: Path,
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    found = directories({"ICEBUS_FIRMWARE": f"{a}{os.pathsep}{b}"})
    assert found[:2] == [a, b]
    packaged = [Path(root) / "worker" / "firmware" / "images" for root in icebus.__path__]
    assert found[2:] == packaged == directories({})
    assert directories({}, [a, b]) == [a, b, *packaged], "those of a configuration"
    assert directories({"ICEBUS_FIRMWARE": str(b)}, [a]) == [b, *packaged]
    write(a / "a.uf2", version="1")
    write(b / "b.uf2", version="2")
    first = find_image("icebus", Chip.RP2040, found[:2])
    assert first is not None
    assert first.marker.version == "1"
