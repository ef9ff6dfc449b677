"""One way in to every data set that is read from disk."""

from typing import Annotated

from pydantic import Field

from rlaif.datasets import ct_rate, folder, openi
from rlaif.datasets.settings import CtRateSettings, FolderSettings, OpeniSettings
from rlaif.datasets.study_table import StudyTable

ReadSettings = Annotated[CtRateSettings | FolderSettings | OpeniSettings, Field(discriminator="name")]


def load(settings: ReadSettings) -> StudyTable:
    """Read the studies of the data set that the settings describe; raises DatasetError where it cannot be used."""
    match settings:
        case CtRateSettings():
            return ct_rate.read_studies(settings)
        case FolderSettings():
            return folder.read_studies(settings)
        case OpeniSettings():
            return openi.read_studies(settings)
