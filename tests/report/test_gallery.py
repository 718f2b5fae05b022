from pathlib import Path

from PIL import Image

from resmoe_lab.report.gallery import write_gallery

from ..plots.synthetic import make_sweep


def test_pictures_stand_on_white_paper(tmp_path: Path) -> None:
    paths = write_gallery(make_sweep(), tmp_path / "gallery")
    assert {path.stem for path in paths} == {"error_by_bytes", "perplexity_by_bytes", "permutations", "similarity"}
    for path in paths:
        picture = Image.open(path).convert("RGB")
        assert min(picture.size) > 150
        assert picture.getpixel((2, 2)) == (255, 255, 255)
        assert len(picture.getcolors(1 << 24) or []) > 20, "an empty picture"
