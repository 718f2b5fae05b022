from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from resmoe_lab.report.gallery import write_gallery

from ..plots.synthetic import make_sweep


def test_pictures_stand_on_white_paper(tmp_path: Path) -> None:
    paths = write_gallery(make_sweep(), tmp_path / "gallery")
    names = {"error_by_bytes", "permutations", "similarity", "errors", "front", "allocation"}
    assert {path.name for path in paths} == {f"{name}.{form}" for name in names for form in ("svg", "png")}
    for path in (path for path in paths if path.suffix == ".svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    for path in (path for path in paths if path.suffix == ".png"):
        picture = Image.open(path).convert("RGB")
        assert min(picture.size) > 150
        assert picture.getpixel((2, 2)) == (255, 255, 255)
        assert len(picture.getcolors(1 << 24) or []) > 20, "an empty picture"
