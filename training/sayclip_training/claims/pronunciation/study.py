"""IPA-CLIP's claims as a study."""

from __future__ import annotations

from sayclip_training.claims.pronunciation.arms import trials
from sayclip_training.claims.pronunciation.experiment import FORMAT, run
from sayclip_training.claims.pronunciation.page import write
from sayclip_training.claims.study import Study

STUDY = Study(tuple(trials()), FORMAT, run, write)
