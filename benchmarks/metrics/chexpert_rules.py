"""The labeller's table: what words name each of the 14 CheXpert observations, deny it or leave it open.

Data only, as regular expressions over a lower-case sentence; `labeller.py` says how they combine. The rules
are this project's own; the 14 names and the three states are CheXpert's (Irvin et al. 2019). Left to other
labels or to none: scars and granulomas, blunted costophrenic angles, compression deformities, volume loss.
"""

from __future__ import annotations

OBSERVATIONS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
"""All labels, in CheXpert's order. "No Finding": nothing but devices is present or uncertain."""

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The labels of CheXpert's competition, on which many papers report."""

MENTIONS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        r"mediastinal (widening|enlargement|prominence)",
        r"(widening|prominence|enlargement) of the (\w+ )?(cardio)?mediastin\w+",
    ),
    "Cardiomegaly": (
        r"cardiomegaly",
        r"cardiac enlargement",
        r"enlargement of the (heart|cardiac silhouette)",
    ),
    "Lung Opacity": (
        r"opaci(ty|ties|fications?)",
        r"infiltrat(e|es|ion|ions)",
        r"air ?-?space (disease|process|changes?)",
        r"(ground ?-?glass|haziness)",
        r"(increased|prominent|prominence of the|coarse(ned)?|thickened|diffuse|accentuated) (\w+ )?"
        r"(interstitial|reticular|bronchovascular|lung) (markings|pattern|opacities|prominence)",
        r"interstitial (prominence|thickening|infiltrates?|lung disease|disease|changes?)",
        r"interstitial markings are (\w+ )?(increased|prominent)",
    ),
    "Lung Lesion": (
        r"nodul(e|es)",
        r"nodular (\w+ )?(opacit(y|ies)|densit(y|ies)|lesions?)",
        r"(?<!thyroid )(?<!mediastinal )(?<!pericardial )(?<!tissue )mass(es)?(?! effect)",
        r"(cavitary|lung|pulmonary|spiculated) lesions?",
        r"(neoplasm|tumou?rs?|malignancy)",
        r"(pulmonary|lung) (metastas[ie]s|cancer|carcinoma)",
        r"metastas[ie]s (in|to|throughout) (both|the|left|right) (\w+ )?lungs?",
    ),
    "Edema": (
        r"(?<!tissue )(?<!subcutaneous )(?<!wall )o?edema",
        r"(vascular|venous|pulmonary|central) congestion",
        r"(congestive|heart) (heart )?failure",
        r"congestive changes?",
        r"venous (hypertension|engorgement)",
        r"vascular prominence",
        r"(fluid|volume) overload",
        r"kerley b? ?lines",
        r"cephalization",
    ),
    "Consolidation": (r"consolidat(ion|ions|ive \w+)",),
    "Pneumonia": (
        r"(broncho)?pneumonias?",
        r"pneumonitis",
        r"(?<!granulomatous )infect(ion|ions|ious (process|etiology|infiltrates?|disease))",
    ),
    "Atelectasis": (
        r"atelecta(sis|ses|tic (changes?|bands?|opacit(y|ies)))",
        r"(lobar|lobe|lung|lingular|segmental) collapse",
        r"collapse of the (\w+ )*(lobe|lung|lingula)",
    ),
    "Pneumothorax": (r"(hydro)?pneumothora(x|ces)", r"pneumothoraces"),
    "Pleural Effusion": (
        r"(?<!pericardial )effusions?",
        r"pleural (fluid|collections?)",
        r"(hydropneumo|hemo|haemo|hydro)thora(x|ces)",
        r"empyema",
    ),
    "Pleural Other": (
        r"pleural (?!fluid)(\w+ )?(thickening|plaques?|scar(ring)?|calcifications?|mass(es)?|fibrosis)",
        r"(pleuroparenchymal|pleural-parenchymal) scar(ring)?",
        r"fibrothorax",
        r"(?<=fluid or )thickening",
        r"(?<=effusion or )thickening|(?<=effusion versus )thickening",
    ),
    "Fracture": (r"fractures?(?! of the \w+ (sternal )?wires?)(?! fragments? removed)",),
    "Support Devices": (
        r"(tubes?|catheters?|cannula|drains?)",
        r"(picc|lines?(?= (placement|tip|in place|terminat\w+|ends))|lines or tubes|lines and tubes)",
        r"(central|venous|picc|arterial|subclavian|jugular|ij|dialysis|support|intravenous) lines?",
        r"(pacemakers?|pacer|icd|aicd|defibrillator|pacing (leads?|wires?))",
        r"(monitor|monitoring|ekg|ecg|pacemaker|pacer|cardiac|\d|two|dual|three) leads?",
        r"(sternotomy|sternal|cerclage) wires?",
        r"(surgical |vascular |cholecystectomy |metallic |mediastinal )*(clips|staples|sutures?)",
        r"(stents?|hardware|arthroplast(y|ies)|prosthe(sis|ses)|mediport|port-?a-?cath|portacath)",
        r"(chest|infusion|subclavian|jugular|right|left)(-sided)? port\b",
        r"(prosthetic|mechanical|replacement|artificial) (\w+ )?valves?",
        r"(valve (replacement|prosthesis)|spinal fusion|fusion rods?|balloon pump|port tip)",
        r"(nerve |spinal |cord )?stimulators?|(bone|suture) anchors?|septal occluder|(pulse )?generator",
        r"(distal )?tip (is )?(in|at|over|overlying|projecting over|within) the (\w+ ){0,2}"
        r"(svc|cavoatrial|caval|atrium|vena)",
    ),
}
"""Label -> what names it. A mention is present unless a cue below says otherwise."""

STRUCTURES: dict[str, tuple[str, str, str]] = {
    "Cardiomegaly": (
        r"heart( size)?|cardiac (silhouette|size|contours?|shadow)",
        r"enlarged|enlargement|prominent|large|increased",
        r"normal|unremarkable|not enlarged|upper limits|within (the )?limits|stable in size",
    ),
    "Enlarged Cardiomediastinum": (
        r"cardiomediastin\w+( silhouettes?| contours?)?|"
        r"mediastin\w+(?! (and hilar )?(lymph|nod))( silhouettes?| contours?)?",
        r"widened|enlarged|prominent|wide",
        r"normal|unremarkable|within (the )?limits|not widened",
    ),
    "Lung Opacity": (
        r"lungs?( fields?)?|lung bases",
        r"opacified",
        r"clear",
    ),
    "Fracture": (
        r"(bony|osseous) (structures|thorax)|ribs|bones|skeleton",
        r"fractured|broken",
        r"intact",
    ),
}
"""Label -> (structure, state that means present, state that means absent). "Borderline" and the like:
uncertain."""

BORDERLINE = r"borderline|upper limits (of )?normal (to|or) mildly"

ABBREVIATIONS: dict[str, str] = {
    r"\bw/o\b": "without", r"\bc/w\b": "consistent with", r"\br/o\b": "rule out", r"\bs/p\b": "status post",
    r"\bptx\b": "pneumothorax", r"\bpna\b": "pneumonia", r"\bchf\b": "heart failure", r"\bvs\b\.?": "versus",
    r"\band/or\b": "versus", r"\bxxxx\b": "evidence",
}  # fmt: skip
"""Spelled out first. XXXX is a masked word of the Indiana reports."""

NOT_SAID = (
    r"^(clinical )?(indications?|history|clinical|comparison|reason|technique|exam(ination)?)\b",
    r"\bhistory of\b",
    r"\b(comparison|compared?) (is made )?(to|with) prior \w+ (showing|with|demonstrating)\b",
    r"\b(rule out|evaluat(e|ion) for|assess for|look for|concern for|question of clinical|to exclude)\b",
    r"\bpatient (with|has|had|collapsed)\b",
    r"\bif (there is )?(clinical|any|persistent|symptoms)\b",
)
"""A clause from here on mentions nothing: questions, histories, plans."""

HARMLESS = (
    r"\b(no|without|not) (significant |appreciable |definite |substantial )?(interval |short-term )?"
    r"(changes?|increase|decrease|improvement|worsening|progression)( in| of)?( the)?( size)?( of)?( the)?",
    r"\b(has|have) not (significantly |substantially )?(changed|increased|decreased|worsened|progressed)",
    r"\bnot (significantly |substantially )?(changed|increased|decreased)",
    r"\bnot only\b",
    r"\bno (prior|previous|comparison) (study|studies|films?|exams?|examinations?|radiographs?)"
    r"( \w+)* available",
    r"\b(ensure|document|confirm) (complete )?(resolution|clearing) of",
    r"\b(nearly|almost|partially|incompletely) (completely )?(resolved|cleared)",
    r", (although|though) (difficult|limited|hard)[^,]*,",
)
"""Said with a word of denial, denying nothing."""

OPEN_DENIALS = (
    r"\b(cannot|can not|can't|could not|not) (be )?(\w+ly )?(exclude|excluded|rule out|ruled out)\b",
    r"\bdifficult to exclude\b",
    r"\bnot excluded\b",
)
"""Denials of a denial, before or after the mention: uncertain."""

DENIED_BEFORE = (
    r"no|without|not|nor|neither|never|negative for|free of|clear of|absence of|absent|denies|lack of|lacks",
    r"resolution of|clearing of|removal of|nothing to suggest|no longer|excludes|resolved",
)
DENIED_AFTER = (
    r"(is|are|was|were|has been|have been)?\s*(not|no longer)( \w+)? (seen|identified|visuali[sz]ed|"
    r"present|evident|demonstrated|noted|appreciated|detected|confirmed|apparent|observed|visible)",
    r"(is|are) absent",
    r"(is|are|appears?) (\w+ )?(normal|within (the )?(normal )?limits)",
    r"(is|are|has|have)( now| since| been| completely| interval\w*)* "
    r"(resolved|cleared|removed|drained|ruled out|excluded)",
    r"^\s*:\s*(none|no|absent)",
    r"represents? (a |an )?(vessel|nipple|normal|artifact|overlapping)",
)
"""Absent: the cue stands before, or after, the mention in its clause."""

OPEN_BEFORE = (
    r"may|might|could|possible|possibly|probable|probably|likely|suspect|suspected|possibility|suspicious|suspicion|questionable|question|"
    r"questioned|concerning|concern|worrisome|suggest\w*|favor\w*|apparent|presumed|perhaps|equivocal|borderline",
    r"less likely|differential|simulating|versus\s+(\w+\s+){0,3}$|\bor\s+(\w+\s+){0,2}$",
)
OPEN_AFTER = (
    r"(is|are|was|were|would be) (also |still )?(possible|suspected|questioned|questionable|"
    r"likely(?! \w)|unlikely|"
    r"favored|less likely|probable|a consideration|in the differential|considered)",
    r"should be considered|unlikely|may be (present|missed|considered|possible)|cannot be assessed|"
    r"most likely (a )?nipple",
    r"^\s*\?|^\s*(\w+\s+){0,3}versus|^\s*(,\s*)?or\b",
)
"""Uncertain: the cue stands before, or after, the mention in its clause."""

TURNS = (
    r";|\bbut\b|\bhowever\b|\balthough\b|\bthough\b|\bwhile\b|\bwhereas\b|\bother than\b|\bexcept (for)?|"
    r"\baside from\b|\bapart from\b|\bwhich\b|\brecommend\w*",
    r"(,|\band\b)( and)? (?=(there (is|are|has)|it |this ))",
    r"(,|\band\b)( and)? (?=((?!n?or )\w+ ){1,4}(is|was|has|appears|shows) )",
)
"""Where a clause ends, and what denies or opens it with it."""

FRESH_TURN = (
    r"(,|\bwith|\band) (?=(an? )?(\w+ly )?(mild|minimal|small|trace|tiny|moderate|stable|persistent|"
    r"unchanged|possible|probable|definite|chronic|old|residual|right|left|bilateral|patchy|no|several|intact)\b)"
)
"""A comma, "with" or "and" before such a word ends a clause too, unless an "or" goes on with the list."""
