"""What leaves the product, and comes back: one module a format, chosen by the end of the file's name.

    result = Result(image, answer, models_of(agent), question="Where are the lungs?")
    write_export(Path("answer.html"), result)
    regions = read_export(Path("answer.json"))

Each export carries the notice, the software's version, and the models with the hashes of their weights. None
carries a path or a patient identifier, except the DICOM SR, which belongs to its study and copies patient and
study from the DICOM file that the caller names.
"""

from .formats import FORMATS, Format, check_export, format_of, read_export, write_export
from .grounded_json import result_to_dict
from .provenance import Model, models_of
from .result import ExportError, Result, SourceFrame

__all__ = [
    "FORMATS",
    "ExportError",
    "Format",
    "Model",
    "Result",
    "SourceFrame",
    "check_export",
    "format_of",
    "models_of",
    "read_export",
    "result_to_dict",
    "write_export",
]
