"""The words that name a finding in chest reports: the CT-RATE labels, and what radiographs add to them.

Every table holds plain phrases in lower case, singular, without hyphens; `rlaif.reports.phrases`
matches them against the text word by word, longest first.
"""

from rlaif.reports.findings import CT_RATE_LABELS

CT_RATE_NAMES = tuple(label.lower() for label in CT_RATE_LABELS)

# Organs in the midline, or present once: a place near them belongs to something else.
WITHOUT_PLACE = frozenset(
    {
        "cardiomegaly",
        "pericardial effusion",
        "coronary artery wall calcification",
        "arterial wall calcification",
        "hiatal hernia",
        "aortic dissection",
        "aortic aneurysm",
        "acute cardiopulmonary disease",
        "scoliosis",
    }
)
# Words such as "nodule" or "mass" mean the lung unless the clause says another organ.
LUNG_UNLESS_ELSEWHERE = frozenset({"lung nodule", "lung opacity", "pulmonary edema"})
# One word for two findings.
COMBINED = {"hydropneumothorax": ("pneumothorax", "pleural effusion")}
# "Increased effusion" compares with an earlier one; "increased opacity" says how dense it is.
GROWING = frozenset({
    "pleural effusion", "pericardial effusion", "pneumothorax", "atelectasis", "consolidation", "lung nodule",
    "pulmonary edema", "vascular congestion", "lymphadenopathy",
})  # fmt: skip

FINDING_PHRASES: dict[str, tuple[str, ...]] = {
    "medical material": (
        "medical material", "medical device", "support device", "pacemaker", "pacemaker lead", "clip", "icd", "aicd",
        "pulse generator", "pacing lead", "cardiac pacemaker", "pacemaker wire", "pacemaker electrode", "electrode",
        "defibrillator", "icd lead", "catheter", "central venous catheter", "venous catheter", "port catheter",
        "dialysis catheter", "central line", "central venous line", "picc", "picc line", "port a cath", "portacath",
        "mediport", "chest port", "endotracheal tube", "et tube", "nasogastric tube", "ng tube", "feeding tube",
        "enteric tube", "orogastric tube", "chest tube", "drainage tube", "pigtail catheter", "chest drain",
        "drainage catheter", "tracheostomy", "tracheostomy tube", "tracheostomy cannula", "stent", "coronary stent",
        "coronary artery stent", "aortic stent", "prosthesis", "prosthetic valve", "prosthetic heart valve",
        "valve prosthesis", "valve replacement", "breast prosthesis", "breast implant", "implant", "sternotomy wire",
        "sternal wire", "median sternotomy wire", "sternal suture", "suture material", "surgical suture",
        "surgical clip", "surgical material", "surgical staple", "vascular clip", "metallic clip", "metallic suture",
        "orthopedic hardware", "spinal hardware", "surgical hardware", "fixation hardware", "operation material",
        "metallic material", "medical line", "cardiac device", "electronic cardiac device", "cardiac generator",
        "pacer", "pacer lead", "pacing device", "ekg lead", "ecg lead", "monitor lead", "cardiac lead",
        "cardiac monitor",
        "distal lead", "lead terminating", "closure device", "spinal fusion", "cervical fusion",
        "lumbar fusion", "spine fusion", "anterior fusion", "anterior cervical fusion", "cervical spine fusion",
        "internal fixation", "spinal fixation", "fixation plate", "gastrostomy tube", "suction tube", "gastric tube",
        "gastrostomy", "tracheal tube", "line and tube", "tube and line", "vagal stimulator", "nerve stimulator",
        "stimulator", "loop recorder", "arthroplasty", "shoulder prosthesis", "sternotomy suture", "skin staple",
        "bypass graft marker", "surgical anchor", "suture anchor", "ventriculoperitoneal shunt",
        "shunt catheter", "vp shunt", "ivc filter", "vena cava filter", "hardware", "orthopedic device", "cardioverter",
        "cerclage wire", "metallic device", "breast prostheses", "port", "infusion port", "chest port",
    ),
    "cardiomegaly": (
        "cardiomegaly", "cardiac enlargement", "heart enlargement", "biventricular enlargement",
        "borderline heart size", "borderline cardiac size", "heart size is borderline", "heart is borderline",
        "heart is borderline in size",
    ),
    "hiatal hernia": (
        "hiatal hernia", "hiatus hernia", "sliding hernia", "sliding hiatal hernia", "diaphragmatic hernia",
        "sliding type hiatal hernia", "hernia at the esophageal hiatus", "paraesophageal hernia", "gastric hernia",
    ),
    "lymphadenopathy": (
        "lymphadenopathy", "adenopathy", "enlarged lymph node", "pathological lymph node", "lymph node enlargement",
        "enlargement of lymph node", "enlargement of the lymph node", "pathologic lymph node", "lymphadenomegaly",
        "lap", "enlarged node", "bulky lymph node",
    ),
    "emphysema": (
        "emphysema", "emphysematous", "emphysematous change", "emphysematous area", "centrilobular emphysema",
        "paraseptal emphysema", "panlobular emphysema", "bulla", "bullae", "bullous change", "air cyst", "bleb",
        "bullous emphysema", "emphysematous air cyst",
    ),
    "atelectasis": (
        "atelectasis", "atelectases", "atelectatic", "atelectatic change", "atelectatic area",
        "subsegmental collapse", "lobar collapse", "collapse", "collapsed lung", "volume loss", "atelectasis area",
        "linear atelectasis", "atelectatic band", "compressive atelectasis", "discoid atelectasis",
        "plate atelectasis", "collapsed",
    ),
    "lung nodule": (
        "nodule", "nodular lesion", "mass", "lung mass", "lung nodule", "pulmonary nodule", "pulmonary mass",
        "mass lesion", "micronodule", "nodular opacity", "nodular density", "calcified nodule", "calcific nodule",
        "ground glass nodule", "parenchymal nodule", "lung lesion", "pulmonary lesion", "space occupying lesion",
        "spiculated lesion", "solid lesion", "nodular focus", "nodular foci", "nodulation", "metastasis of the lung",
        "lung tumor", "lung metastasis", "lung metastases", "pulmonary metastasis", "pulmonary metastases",
        "round lesion", "nodular infiltrate", "rounded opacity", "round opacity", "rounded density", "round density",
    ),
    "lung opacity": (
        "opacity", "lung opacity", "pulmonary opacity", "opacification", "ground glass opacity", "ggo", "infiltrate",
        "infiltration", "ground glass", "ground glass density", "ground glass area", "ground glass attenuation",
        "ground glass appearance", "airspace opacity", "air space opacity", "airspace disease", "air space disease",
        "density increase", "increased density", "increased opacity", "density increment", "frosted glass",
        "frosted glass density", "frosted glass opacity", "hazy density", "hazy opacity", "patchy density",
        "patchy opacity", "focal opacity", "interstitial opacity", "nodular ground glass opacity", "opacified",
        "parenchymal opacity", "crazy paving pattern", "lung density", "masslike opacity", "mass like opacity",
        "focal airspace disease", "ground glass infiltrate", "ground glass opacification", "interstitial infiltrate",
        "mass like density", "masslike density", "density in", "density within", "density at", "density over",
        "density projecting over", "density overlying", "density seen in",
        *(
            f"{quality} density"
            for quality in (
                "focal", "streaky", "linear", "vague", "ill defined", "irregular", "airspace", "scattered",
                "interstitial",
                "bandlike", "platelike", "pleural based", "basilar airspace", "parenchymal", "alveolar", "subtle",
            )
        ),
    ),
    "pulmonary fibrotic sequela": (
        "pulmonary fibrotic sequela", "pulmonary fibrotic sequelae", "fibrotic sequela", "fibrotic sequelae",
        "fibrosis", "pulmonary fibrosis", "fibrotic", "fibrotic change", "fibrotic band", "fibrotic density",
        "fibrotic scar", "scar", "scarring", "parenchymal scar", "sequela", "sequelae", "sequela change",
        "sequelae change", "sequela fibrotic change", "sequelae fibrotic change", "sequelae of fibrosis",
        "fibroatelectasis", "fibroatelectatic", "fibroatelectatic sequela", "fibroatelectatic sequelae",
        "fibroatelectatic change", "fibro atelectatic change", "sequela fibroatelectatic change",
        "sequelae fibroatelectatic change", "fibrotic sequela change", "fibrotic sequelae change",
        "pleuroparenchymal sequela", "pleuroparenchymal sequelae", "pleuroparenchymal sequelae change",
        "pleuroparenchymal sequela change", "pleuroparenchymal sequelae density", "honeycombing", "honeycomb",
        "sequela density", "sequelae density", "parenchymal band", "fibrous band", "cicatricial change",
        "fibrocystic change", "apical scarring", "fibrotic sequela band", "scar tissue",
    ),
    "mosaic attenuation pattern": (
        "mosaic attenuation pattern", "mosaic attenuation", "mosaic pattern", "mosaic perfusion", "mosaicism",
        "mosaic", "mosaic perfusion pattern", "mosaic density", "mosaic density difference", "air trapping",
    ),
    "peribronchial thickening": (
        "peribronchial thickening", "peribronchial wall thickening", "bronchial wall thickening",
        "peribronchial cuffing", "thickening of the bronchial wall", "thickening of bronchial wall",
        "bronchial thickening", "thickened bronchial wall", "thickening in the bronchial wall",
        "bronchial wall thickness increase", "increased bronchial wall thickness", "peribronchial sheathing",
        "peribronchovascular thickening", "peribronchovascular interstitial thickening", "bronchial cuffing",
        "peribronchial thickness increase", "thickening of the peribronchial interstitium",
        "bronchial wall are thickened", "bronchial wall is thickened", "thickening around the bronchi",
        "thickened bronchus", "thickened bronchi",
    ),
    "consolidation": (
        "consolidation", "consolidative", "consolidative opacity", "consolidative change", "consolidated",
        "consolidation area", "area of consolidation", "airspace consolidation", "air space consolidation",
        "pneumonic consolidation", "consolidated area", "pneumonic infiltration", "pneumonic infiltrate",
        "consolidative density", "consolidative area",
    ),
    "bronchiectasis": (
        "bronchiectasis", "bronchiectases", "bronchiectatic", "bronchiectatic change", "bronchial dilatation",
        "dilated bronchi", "dilated bronchus", "dilatation of the bronchi", "bronchial dilation",
        "traction bronchiectasis", "cystic bronchiectasis", "tubular bronchiectasis", "cylindrical bronchiectasis",
        "dilation of the bronchi", "widening of the bronchi", "ectasia of the bronchi", "bronchial ectasia",
    ),
    "interlobular septal thickening": (
        "interlobular septal thickening", "septal thickening", "thickening of the interlobular septa",
        "interlobular septa thickening", "thickened interlobular septa", "thickened septa",
        "smooth septal thickening", "thickened interlobular septum", "interlobular septum thickening",
        "thickening of interlobular septa", "thickening in the interlobular septa", "interlobular septal prominence",
        "kerley b line", "septal line", "kerley line", "interlobular septa are thickened",
        "interlobular septum are thickened", "interlobular thickening",
    ),
    "pneumothorax": ("pneumothorax", "pneumothoraces"),
    "fracture": ("fracture", "rib fracture", "compression fracture", "compression deformity", "fracture line"),
    "pulmonary edema": (
        "pulmonary edema", "pulmonary oedema", "interstitial edema", "alveolar edema", "lung edema", "edema",
    ),
    "vascular congestion": (
        "vascular congestion", "pulmonary vascular congestion", "pulmonary venous congestion", "pulmonary congestion",
        "vascular redistribution", "cephalization", "vascular prominence", "vascular engorgement",
        "venous congestion", "pulmonary venous hypertension", "engorgement of the pulmonary vasculature",
        "prominent pulmonary vasculature", "engorged pulmonary vasculature",
        "prominence of the pulmonary vasculature", "prominence of the central pulmonary vasculature",
        "pulmonary vascular prominence", "increased pulmonary vascularity", "pulmonary vascularity is increased",
        "pulmonary vasculature is increased", "pulmonary vasculature is prominent", "pulmonary vasculature is engorged",
        "pulmonary vascular redistribution", "indistinct vascular margination", "central vascular congestion",
    ),
    "granuloma": (
        "granuloma", "calcified granuloma", "granulomatous disease", "granulomata", "calcified granulomata",
        "granulomatous change", "calcific granuloma", "granulomatous calcification", "granulomatous sequela",
        "granulomatous sequelae", "granulomatous infection", "granulomatous process",
        *(
            f"{sequela} {of}{when}granulomatous {what}"
            for sequela in ("sequela", "sequelae")
            for of in ("of ", "")
            for when in ("", "old ", "prior ", "previous ", "remote ", "chronic ")
            for what in ("disease", "infection", "process")
        ),
    ),
    "degenerative change": (
        "degenerative change", "degenerative disc disease", "degenerative disease", "spondylosis", "osteophyte",
        "osteophytosis", "osteophyte formation", "degenerative spurring", "degenerative", "spondylotic change",
        "degenerative osteophyte", "bridging osteophyte", "endplate change", "osteoarthritis", "arthritic change",
        "arthritis", "arthritic", "arthropathy", "degeneration", "degenerated", "degenerate change", "spurring",
        "spur", "endplate spurring",
        "degenerative joint disease", "osteoarthritic change", "arthrosis",
    ),
    "aortic dissection": ("aortic dissection", "dissection of the aorta", "dissection flap", "dissection"),
    "aortic aneurysm": ("aortic aneurysm", "aneurysm", "aneurysmal dilatation", "aneurysm of the aorta"),
    "pulmonary embolism": (
        "pulmonary embolism", "pulmonary embolus", "pulmonary emboli", "pulmonary thromboembolism", "embolism",
        "embolus", "emboli", "pulmonary arterial filling defect", "filling defect",
    ),
    "pneumonia": (
        "pneumonia", "bronchopneumonia", "pneumonic", "viral pneumonia", "covid pneumonia", "pneumonic change",
    ),
    "pleural thickening": (
        "pleural thickening", "thickening of the pleura", "apical pleural thickening", "pleural plaque",
        "fissural thickening", "thickening of the fissure",
        "pleural scarring and thickening", "pleural based thickening", "apical thickening", "apical cap",
        "apical capping", "pleural parenchymal thickening",
    ),
    "hyperinflation": (
        "hyperinflation", "hyperinflated", "hyperexpanded", "hyperexpansion", "hyperaeration", "hyperaerated",
    ),
    "scoliosis": (
        "scoliosis", "scoliotic curvature", "scoliotic", "levocurvature", "dextrocurvature", "spine curvature",
        "dextroscoliosis", "levoscoliosis", "kyphoscoliosis", "s shaped curvature", "dextro curvature",
        "levo curvature", "dextroconvex curvature", "levoconvex curvature", "spinal curvature",
        "thoracolumbar curvature",
        "curvature of the spine", "curvature of the thoracic spine", "curvature of the lower thoracic spine",
        "curvature of the upper thoracic spine", "curvature of the lumbar spine",
        "curvature of the thoracolumbar spine",
        "curvature thoracic spine", "rotoscoliosis",
    ),
    "acute cardiopulmonary disease": tuple(
        f"{word} {rest}"
        for word in ("acute", "active")
        for rest in (
            "disease", "cardiopulmonary disease", "cardiopulmonary abnormality", "cardiopulmonary process",
            "cardiopulmonary finding", "cardiopulmonary pathology", "pulmonary disease", "pulmonary abnormality",
            "pulmonary process", "cardiothoracic abnormality", "intrathoracic abnormality", "intrathoracic process",
            "abnormality", "process", "chest abnormality", "cardiac or pulmonary disease", "pulmonary finding",
            "finding", "cardiac or pulmonary abnormality", "lung disease",
        )
    ),
}  # fmt: skip

# Words whose meaning the clause decides: which cavity an effusion is in, which vessel is calcified.
EFFUSION_PHRASES = ("effusion", "fluid", "effusion thickening", "free fluid", "fluid collection", "fluid accumulation")
HYDROTHORAX_PHRASES = ("hydrothorax", "hemothorax", "haemothorax")
# A blunted angle may be fluid or scar: an effusion only as a possibility.
BLUNTED_ANGLE_PHRASES = ("blunting", "blunted", "costophrenic angle blunting", "costophrenic sulcus blunting")
CALCIFICATION_PHRASES = (
    "calcification", "wall calcification", "calcified plaque", "calcific plaque", "calcified", "calcific",
    "calcified wall", "calcific change", "calcium", "calcification of the wall", "calcified wall plaque",
    "calcification in the wall", "calcification plaque", "mural calcification", "linear calcification",
)  # fmt: skip
ATHEROSCLEROSIS_PHRASES = (
    "atherosclerosis", "atherosclerotic", "atherosclerotic change", "atherosclerotic calcification", "atheroma",
    "atherosclerotic disease", "atheroma plaque", "atheromatous plaque", "atherosclerotic plaque", "atheromatous",
    "calcified atheroma plaque", "calcific atheroma plaque", "calcified atheromatous plaque",
    "atherosclerotic wall calcification", "calcific atheromatous plaque", "calcified atherosclerotic plaque",
    "calcific atherosclerotic plaque", "atheroma plaque calcification", "calcified atherosclerotic change",
    "calcific atherosclerotic change", "atheromatous calcification", "atherosclerotic calcified plaque",
    "atheromatous change", "calcified atheroma", "calcified atherosclerosis", "calcific atherosclerosis",
    "arteriosclerosis", "arteriosclerotic change",
)  # fmt: skip
VESSEL_PHRASES: dict[str, tuple[str, ...]] = {
    "coronary": ("coronary artery", "coronary", "coronary vessel", "coronary arterial"),
    "aorta": (
        "aorta", "aortic", "aortic arch", "thoracic aorta", "arcus aorta", "ascending aorta", "descending aorta",
        "abdominal aorta", "aortic wall", "thoracic aortic",
    ),
    "artery": (
        "artery", "arterial", "vasculature", "carotid", "carotid artery", "vascular", "vessel", "subclavian",
        "subclavian artery",
        "supraaortic branch", "supra aortic branch", "great vessel", "arterial wall", "vascular wall",
        "brachiocephalic artery",
    ),
}  # fmt: skip
CALCIFICATION_OF_VESSEL = {
    "coronary": "coronary artery wall calcification",
    "aorta": "arterial wall calcification",
    "artery": "arterial wall calcification",
}
CAVITY_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "pericardial effusion": ("pericardial",),
    "pleural effusion": ("pleural",),
}
CAVITY_NOUNS: dict[str, tuple[str, ...]] = {
    "pericardial effusion": (
        "pericardium", "pericardial space", "pericardial cavity", "pericardial sac", "pericardial area",
    ),
    "pleural effusion": ("pleura", "pleural space", "pleural cavity", "hemithorax", "pleural area"),
}  # fmt: skip

HEART_PHRASES = (
    "heart", "heart size", "cardiac", "cardiac silhouette", "cardiomediastinal silhouette", "cardiac size",
    "cardiac contour", "cardiothoracic ratio", "cardiothoracic index", "cardiac shadow", "heart contour",
    "cardiac dimension", "heart dimension", "heart silhouette", "cardiomediastinal contour",
    "cardio mediastinal silhouette", "heart shadow", "size of the heart", "size of the cardiac silhouette",
    "cardiac and mediastinal contour", "cardiac and mediastinal silhouette", "heart chamber", "cardiac chamber",
)  # fmt: skip
LYMPH_NODE_PHRASES = ("lymph node", "node", "lymphatic node")
ENLARGED_PHRASES = (
    "enlarged", "enlargement", "increased", "increase", "large", "dilated", "bigger than normal",
    "larger than normal", "greater than normal", "above normal", "increased in size", "expanded",
)  # fmt: skip
PATHOLOGICAL_PHRASES = (
    "pathological", "pathologic", "pathologically", "pathological size", "pathological dimension", "abnormal",
    "suspicious",
)  # fmt: skip
NORMAL_PHRASES = (
    "normal", "unremarkable", "within normal limit", "within the normal limit", "natural", "normal in size",
    "upper limit of normal", "upper normal", "top normal", "upper limit of normal size", "ordinary",
    "within normal range", "stable in size and normal",
)  # fmt: skip
CLEAR_LUNG_PHRASES = (
    "lung are clear", "lung is clear", "clear lung", "lung clear", "lung field are clear", "lung remain clear",
    "lung field clear", "clear lung field", "lung appear clear", "lung are grossly clear", "both lung are clear",
    "lung are essentially clear", "lung are well expanded and clear", "lung are expanded and clear",
    "lung are well aerated and clear", "lung are bilaterally clear", "lung parenchyma is clear",
)  # fmt: skip
CLEAR_PLEURA_PHRASES = (
    "pleural space are clear", "pleural space is clear", "costophrenic angle are clear",
    "costophrenic angle are sharp",
)  # fmt: skip
