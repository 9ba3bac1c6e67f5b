"""MDETR json: COCO's layout with a caption an image record and ``tokens_positive`` an annotation.

A picture has one record a caption; all records of a picture become one image here, or duplicate removal would
keep but one of them. Boxes are xywh pixels; ``tokens_positive`` are character spans [start, end) of the
caption. A region's label is its phrase; caption and spans stay in its `attributes`. Captions mention what
they like, so no label is ever taken for absent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import (
    Record,
    box_of,
    faulty,
    find_picture,
    numbers,
    picture_of_size,
    read_index,
    refuse_faulty,
    size_of,
    split_name,
)
from .odvg import phrase_of
from .segmentation import mask_of

_ANNOTATION_FIELDS = ("id", "image_id", "bbox", "segmentation", "category_id")
_RECORD_FIELDS = ("id", "file_name", "height", "width")


@dataclass(frozen=True)
class Mdetr:
    """A folder with json files such as ``final_flickr_separateGT_train.json``.

    Attributes:
        root: the folder.
        info: what the manifest says.
        images: folder of the pictures, relative to `root`.
    """

    root: Path
    info: DatasetInfo
    images: str = "images"

    def units(self) -> Iterator[Unit]:
        """One unit a picture and file.

        Raises:
            UnitError: there are no files, or one is broken.
        """
        paths = sorted(self.root.glob("*.json"))
        if not paths:
            raise UnitError(f"{self.root}: expected MDETR files (*.json); give the folder that holds them")
        for path in paths:
            content = read_index(path, ("images", "annotations"))
            names = {str(record.get("id")) for record in content["images"]}
            own: dict[str, list[Record]] = defaultdict(list)
            for row in content["annotations"]:
                own[str(row.get("image_id"))].append(row)
            for image in sorted(own.keys() - names):
                message = f"{path}: {len(own[image])} annotations name image {image!r}, which is not there"
                yield faulty(f"{path.stem}/image-{image}", f"{message}; add it or remove them")
            pictures: dict[str, list[Record]] = defaultdict(list)
            for record in content["images"]:
                pictures[str(record.get("file_name"))].append(record)
            for name, records in pictures.items():
                if name in ("None", ""):
                    message = f"{path}: {len(records)} image records have no file_name; add it"
                    yield faulty(f"{path.stem}/nameless", message)
                    continue
                pairs = [{"record": record, "annotations": own[str(record.get("id"))]} for record in records]
                yield Unit(f"{path.stem}/{name}", {"index": path.name, "name": name, "captions": pairs})

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """One picture with the phrases of all its captions.

        Raises:
            UnitError: the picture is missing or of another size, or an annotation is wrong.
        """
        refuse_faulty(unit)
        index, name, pairs = (unit.payload[key] for key in ("index", "name", "captions"))
        where = f"{self.root / index}: {name}"
        sizes = {size_of(pair["record"].get("height"), pair["record"].get("width"), where) for pair in pairs}
        if len(sizes) > 1:
            raise UnitError(f"{where}: its records declare different sizes; correct them")
        path = find_picture(self.root, [self.images, "."], name)
        picture, size = picture_of_size(path, sizes.pop())
        records = [pair["record"] for pair in pairs]
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=tuple(
                _region(item, pair["record"].get("caption"), size, where)
                for pair in pairs
                for item in pair["annotations"]
            ),
            file_name=name,
            modality=self.info.modality,
            split=split_name(Path(index).stem),
            attributes={
                "captions": [{k: v for k, v in row.items() if k not in _RECORD_FIELDS} for row in records]
            },
        )


def _region(item: Record, caption: object, size: tuple[int, int], where: str) -> SourceRegion:
    where = f"{where}, annotation {item.get('id')!r}"
    label = phrase_of(caption, item.get("tokens_positive"), where)
    x, y, width, height = numbers(item.get("bbox"), 4, "bbox", where)
    segmentation = item.get("segmentation")
    if isinstance(segmentation, list) and segmentation and not isinstance(segmentation[0], list):
        segmentation = [segmentation]  # Flickr30k's files hold one polygon without the outer list
    mask = mask_of(segmentation, size, where)
    attributes = {key: value for key, value in item.items() if key not in _ANNOTATION_FIELDS}
    attributes |= {"caption": caption, "source_id": item.get("id")}
    box = box_of(x, y, x + width, y + height, where)
    return SourceRegion(label, box, mask if mask is not None and mask.any() else None, attributes)
