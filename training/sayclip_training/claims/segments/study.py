"""Segmental SpeechCLIP's and SpeechCLIP's claims as a study."""

from __future__ import annotations

from sayclip_training.claims.segments.arms import trials
from sayclip_training.claims.segments.experiment import FORMAT, prepare, run
from sayclip_training.claims.segments.page import write
from sayclip_training.claims.study import Study
from sayclip_training.claims.testbed import SPEECH

STUDY = Study(tuple(trials()), FORMAT, run, write, prepare, also=(SPEECH,))
