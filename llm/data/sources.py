"""Where the data sets come from: licence, address, the layout that the readers expect, how to get them.

A table and the words to tell it; downloads nothing (`llm.data.fetch` does). Licences are as the sources state
them; whoever downloads agrees to them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        title: Its name in full.
        licence: As the source states it.
        url: Where it is described, or applied for.
        layout: What the reader expects in the folder.
        steps: How to get it by hand, in order.
        repository: Its data set on the model hub; None where it must be applied for or fetched from its site.
        revision: The commit of `repository` that is taken.
        files: The files of `repository` that are taken, each with its sha256 ("" where that is not pinned).
        archives: Those of `files` that are unpacked in the folder.
    """

    title: str
    licence: str
    url: str
    layout: str
    steps: tuple[str, ...]
    repository: str | None = None
    revision: str = ""
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    archives: tuple[str, ...] = ()


def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        ValueError: It is not in the table; the message gives the nearest or all names.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(SOURCES)}"
        raise ValueError(f"unknown data set {name!r}; {hint}")
    return SOURCES[name]


def how_to_get(name: str) -> str:
    """What a person must know and do to get a data set by hand, in several lines.

    Raises:
        ValueError: The name is not in the table.
    """
    source = find_source(name)
    steps = [f"  {number}. {step}" for number, step in enumerate(source.steps, start=1)]
    lines = [
        source.title,
        f"licence: {source.licence}",
        f"address: {source.url}",
        "to get it:",
        *steps,
        "expected in the folder:",
        f"  {source.layout}",
    ]
    return "\n".join(lines)


def _hub(title: str, licence: str, layout: str, commit: tuple[str, str], files: Mapping[str, str]) -> Source:
    """A source on the hub; its archives are the zip files among its images."""
    repository, revision = commit
    url = f"https://huggingface.co/datasets/{repository}"
    archives = tuple(file for file in files if file.endswith(".zip"))
    steps = (
        f"on a machine with a network: hf download {repository} --repo-type dataset --revision {revision}"
        f" --local-dir FOLDER --include {' '.join(files)}",
        *(f"unzip {archive} in FOLDER" for archive in archives),
        "copy FOLDER here",
    )
    return Source(title, licence, url, layout, steps, repository, revision, files, archives)


_PHYSIONET: Final = (
    "make an account at https://physionet.org and apply to become a credentialed user",
    "take the course 'Data or Specimens Only Research' and hand in its certificate",
    "sign the data use agreement at the address above, then download with your account",
)
_SHARDS: Final = {
    "train": "f2d0e9ef9f022d38 47d8e0220bf6c933 7fb5037c4c5da7be 74b9b7b81cc55f90 77eea90af4a55dce"
    " 5332ec423be520bd 637a58c700b604af",
    "validation": "90a5518d26493b67 cbfe947a3418595c 9ec816895bd3bc20",
    "test": "e9adadb4799f44d3 7ea98873fc919813 1628308435019820",
}
_PATH_VQA_FILES: Final = {
    f"data/{split}-{number:05d}-of-{len(tags.split()):05d}-{tag}.parquet": ""
    for split, tags in _SHARDS.items()
    for number, tag in enumerate(tags.split())
}

SOURCES: Final[Mapping[str, Source]] = {
    "vqa-rad": _hub(
        "VQA-RAD (Lau et al. 2018): questions on radiology images",
        "CC0 1.0",
        "data/train-*.parquet, data/test-*.parquet (llm.data.vqa_rad.read_vqa_rad_hub)",
        ("flaviagiammarino/vqa-rad", "bcf91e7654fb9d51c8ab6a5b82cacf3fafd2fae9"),
        {
            "data/train-00000-of-00001-eb8844602202be60.parquet": (
                "b07c3441467b99060e5ec412ddd05be06f86f01f23bfa3debfbbcab47874a06e"
            ),
            "data/test-00000-of-00001-e5bc3d208bb4deeb.parquet": (
                "eb520bdab1116dd4f420120da19049d2315389fa126d031f65ec42e153264ea7"
            ),
        },
    ),
    "slake": _hub(
        "SLAKE (Liu et al. 2021): questions on radiology images with boxes and masks",
        "CC BY 4.0",
        "train.json, validate.json or validation.json, test.json, mask.txt,"
        " imgs/xmlab<N>/{source.jpg, mask.png, detection.json} (llm.data.slake)",
        ("BoKelvin/SLAKE", "a9083ce6c34ac3ffb17671a605962924d8a8f9e9"),
        dict.fromkeys(("train.json", "validation.json", "test.json", "mask.txt", "imgs.zip"), ""),
    ),
    "path-vqa": _hub(
        "PathVQA (He et al. 2020): questions on pathology images",
        "MIT",
        "data/train-*.parquet, data/validation-*.parquet, data/test-*.parquet (llm.data.path_vqa)",
        ("flaviagiammarino/path-vqa", "1685832883334b5bb5beaf4e4b333fdeecaa4ad9"),
        _PATH_VQA_FILES,
    ),
    "mimic-cxr": Source(
        "MIMIC-CXR-JPG 2 with the reports of MIMIC-CXR (Johnson et al. 2019)",
        "PhysioNet Credentialed Health Data License 1.5.0; no sharing, no sending to online services",
        "https://physionet.org/content/mimic-cxr-jpg/ and https://physionet.org/content/mimic-cxr/ (reports)",
        "mimic-cxr-2.0.0-{split,metadata,chexpert}.csv.gz, files/p10/p10000032/s50414267/*.jpg; in a second"
        " folder files/p10/p10000032/s50414267.txt from mimic-cxr-reports.zip (llm.data.mimic_cxr)",
        _PHYSIONET,
    ),
    "ms-cxr": Source(
        "MS-CXR (Boecking et al. 2022): phrases with boxes on MIMIC-CXR images",
        "PhysioNet Credentialed Health Data License 1.5.0; no sharing, no sending to online services",
        "https://physionet.org/content/ms-cxr/",
        "MS_CXR_Local_Alignment_v1.0.0.json (or 1.1.0), and the images of mimic-cxr",
        _PHYSIONET,
    ),
    "vindr-cxr": Source(
        "VinDr-CXR (Nguyen et al. 2022): chest X-rays with boxes of several readers",
        "PhysioNet Credentialed Health Data License 1.5.0; no sharing, no sending to online services",
        "https://physionet.org/content/vindr-cxr/",
        "annotations/annotations_{train,test}.csv, train/*.dicom, test/*.dicom",
        _PHYSIONET,
    ),
    "iu-xray": Source(
        "IU-Xray, the Indiana University chest X-ray collection of Open-i (Demner-Fushman et al. 2016)",
        "CC BY-NC-ND 4.0: not for commerce, no derivatives of the reports",
        "https://openi.nlm.nih.gov/faq",
        "ecgen-radiology/*.xml, NLMCXR_png/*.png (llm.data.iu_xray.read_iu_xray), or R2Gen's annotation.json"
        " with images/ (llm.data.iu_xray.read_iu_xray_r2gen)",
        (
            "download NLMCXR_reports.tgz and NLMCXR_png.tgz from https://openi.nlm.nih.gov/imgs/collections/",
            "unpack the reports in the folder and the pictures in NLMCXR_png/",
        ),
    ),
    "sa-med2d": Source(
        "SA-Med2D-20M (Ye et al. 2023): masks of many public sets",
        "CC BY-NC-SA 4.0, and the licence of each set in it",
        "https://huggingface.co/datasets/OpenGVLab/SA-Med2D-20M",
        "images/*.png, masks/*.png, SAMed2D_v1.json, SAMed2D_v1_class_mapping_id.json",
        (
            "accept the conditions at the address above",
            "download all parts of the split zip archive, join them and unpack",
        ),
    ),
}
"""By the name that ``medglip data fetch`` takes."""
