"""Every size of a paper is that paper's model: visual tokens and parameters as published or counted by hand."""

import re
from dataclasses import dataclass
from functools import cache
from math import ceil

import pytest
from hydra import compose, initialize_config_dir

from rlaif.config import Config, load_config
from rlaif.launch import CONFIGS, PROJECT, sized
from rlaif.models.new_policy import language_configuration
from rlaif.models.size import PolicySize, policy_size
from rlaif.records import Study
from rlaif.reports.prompts import findings_case, image_case, region_case
from rlaif.reports.regions import REGIONS

# Sizes that no paper has.
OURS = {"tiny", "135m"}


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def mlp(inputs: int, inner: int, outputs: int) -> int:
    return linear(inputs, inner) + linear(inner, outputs)


def norm(width: int) -> int:
    return 2 * width


# What is published of the language models; the sums are in the first test.
LLAMA_2_7B = 6_738_415_616
LLAMA_13B = 13_015_864_320
LLAMA_3_2_1B = 1_235_814_400
LLAMA_3_2_3B = 3_212_749_824
LLAMA_3_1_8B = 8_030_261_248
LLAMA_3_1_70B = 70_553_706_496
GPT_2 = 124_439_808
# The encoders; the sums are in the second test.
CTVIT_V = 28_577_672
ARGUS_VIT = 88_202_496
ARGUS_VIT_HIGH = 100_785_408
M3D_VIT = 87_389_184
RADFM_VIT = 66_208_000


def vit_b(voxels: int, places: int, *, class_token: bool, qkv_bias: bool) -> int:
    """ViT-B: a linear layer on each patch, places, twelve layers of 768 values, a norm."""
    layer = 3 * 768 * 768 + 3 * 768 * qkv_bias + linear(768, 768) + mlp(768, 3072, 768) + 2 * norm(768)
    return linear(voxels, 768) + places * 768 + 768 * class_token + 12 * layer + norm(768)


def perceiver(hidden: int) -> int:
    """Latents, six layers without biases (norms of tokens and latents; queries, keys and values, output of 8 x 64
    values; norm and feed-forward), a norm, and the layer to the language model.
    """
    layer = 2 * norm(768) + 768 * 512 + 768 * 1024 + 512 * 768 + norm(768) + 2 * 768 * 3072
    return 32 * 768 + 6 * layer + norm(768) + linear(768, hidden)


def regions(hidden: int) -> int:
    """The perceiver, the mask encoder on patches of 16 x 32 x 32 voxels, and its layer to the language model."""
    layer = norm(255) + 255 * 3 * 512 + linear(512, 255) + norm(255) + mlp(255, 512, 255)
    embedding = norm(16_384) + linear(16_384, 255) + norm(255) + (4 + 8 + 8) * 85
    return perceiver(hidden) + embedding + 3 * layer + linear(255, hidden)


def mu2(hidden: int) -> int:
    """M3D's projector; four layers of two attentions with the biases of 1023 distances for 8 heads; scores of 1024
    tokens; a gate; four layers of three attentions, one of them with distances, and three norms; queries and keys of
    the last attention; 256 queries. Keys have no bias anywhere.
    """
    attention = 3 * linear(hidden, hidden) + hidden * hidden
    distances = (2 * 512 - 1) * 8
    refining = 4 * 2 * (attention + distances)
    aggregation = 4 * (3 * attention + distances + 3 * norm(hidden)) + linear(hidden, hidden) + hidden * hidden
    return mlp(768, hidden, hidden) + refining + hidden * 1024 + hidden + aggregation + 256 * hidden


@dataclass(frozen=True)
class Paper:
    """What a size must be: visual tokens of the scan and of a region, widths, and parameters of the three parts."""

    image_tokens: int
    region_tokens: int
    features: int
    hidden: int
    encoder: int
    connector: int
    language_model: int


PAPERS = {
    # 16 x 16 x 16 patches, 2 x 2 x 2 of them averaged.
    "ct_gpt_pp/7b": Paper(16**3 // 8, 0, 512, 4096, CTVIT_V, mlp(512, 4096, 4096), LLAMA_2_7B),
    # 8 x 16 x 16 and 16 x 16 x 16 patches, 2 x 2 x 2 of them joined.
    "argus/3b": Paper(256, 0, 768, 3072, ARGUS_VIT, mlp(8 * 768, 3072, 3072), LLAMA_3_2_3B),
    "argus/8b": Paper(256, 0, 768, 4096, ARGUS_VIT, mlp(8 * 768, 4096, 4096), LLAMA_3_1_8B),
    "argus/70b": Paper(256, 0, 768, 8192, ARGUS_VIT, mlp(8 * 768, 8192, 8192), LLAMA_3_1_70B),
    "argus/3b_high": Paper(512, 0, 768, 3072, ARGUS_VIT_HIGH, mlp(8 * 768, 3072, 3072), LLAMA_3_2_3B),
    "argus/8b_high": Paper(512, 0, 768, 4096, ARGUS_VIT_HIGH, mlp(8 * 768, 4096, 4096), LLAMA_3_1_8B),
    "argus/70b_high": Paper(512, 0, 768, 8192, ARGUS_VIT_HIGH, mlp(8 * 768, 8192, 8192), LLAMA_3_1_70B),
    "mu2/1b": Paper(256, 0, 768, 2048, M3D_VIT, mu2(2048), LLAMA_3_2_1B),
    # 32 latents, and one token more for a region's mask.
    "reg2rg/7b": Paper(32, 33, 768, 4096, RADFM_VIT, regions(4096), LLAMA_2_7B),
    "reg2rg/gpt2": Paper(32, 33, 768, 768, RADFM_VIT, regions(768), GPT_2),
    "rgro/7b": Paper(0, 0, 0, 4096, 0, 0, LLAMA_2_7B),
    # 8 x 16 x 16 patches, 2 x 2 x 2 of them averaged.
    "m3d/7b": Paper(256, 0, 768, 4096, M3D_VIT, mlp(768, 4096, 4096), LLAMA_2_7B),
    "radfm/13b": Paper(32, 0, 768, 5120, RADFM_VIT, perceiver(5120), LLAMA_13B),
}

papers = pytest.mark.parametrize("name", PAPERS)


@cache
def config_of(name: str) -> Config:
    policy, size = name.split("/")
    given = [f"policy={policy}", f"policy.size={size}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", given), given), PROJECT)


@cache
def size_of(name: str) -> PolicySize:
    config = config_of(name)
    language = config.policy.language_model
    assert language is not None
    configuration = language_configuration(language, language.vocabulary)
    return policy_size(configuration, config.policy.settings(), config.learner.lora)


def longest_prompt(config: Config) -> str:
    """The prompt of the largest case that a report generator meets, in the policy's frame."""
    # Argus, Table 1: no report of CT-RATE, BIMCV-R and INSPECT has more than 824 tokens.
    study = Study("s", "p", "CT-RATE", "heldout", "v.nii.gz", "normal " * 824, "normal", None, None)
    settings = config.policy.settings()
    match settings.reads:
        case "findings":
            prompt = findings_case(study, "impression").prompt
        case "scan":
            prompt = max((image_case(study, target, None).prompt for target in ("findings", "both")), key=len)
        case "regions":
            prompt = region_case(study, "findings", None, REGIONS).prompt
    return (settings.template or "{prompt}").replace("{prompt}", prompt)


def words_at_most(text: str) -> int:
    """More tokens than the models' tokenizers make of English: one for each mark and each four letters of a word, and
    the beginning.
    """
    return 1 + sum(ceil(len(piece) / 4) for piece in re.findall(r"\w+|[^\w\s]|\n", text))


def test_the_language_models_are_their_sums() -> None:
    def llama(layer: int, layers: int, hidden: int, embeddings: int) -> int:
        # For each layer two norms as well, and one at the end.
        return embeddings * hidden + layers * (layer + 2 * hidden) + hidden

    # Attention (queries, keys, values, output) and the gated feed-forward; input and output embeddings.
    assert llama(4 * 4096**2 + 3 * 4096 * 11_008, 32, 4096, 2 * 32_000) == LLAMA_2_7B
    assert llama(4 * 5120**2 + 3 * 5120 * 13_824, 40, 5120, 2 * 32_000) == LLAMA_13B
    # Llama 3 has 8 heads of keys and values, of 64 or 128 values; one embedding serves both ends of the small ones.
    assert llama(2 * 2048**2 + 2 * 2048 * 8 * 64 + 3 * 2048 * 8192, 16, 2048, 128_256) == LLAMA_3_2_1B
    assert llama(2 * 3072**2 + 2 * 3072 * 8 * 128 + 3 * 3072 * 8192, 28, 3072, 128_256) == LLAMA_3_2_3B
    assert llama(2 * 4096**2 + 2 * 4096 * 8 * 128 + 3 * 4096 * 14_336, 32, 4096, 2 * 128_256) == LLAMA_3_1_8B
    assert llama(2 * 8192**2 + 2 * 8192 * 8 * 128 + 3 * 8192 * 28_672, 80, 8192, 2 * 128_256) == LLAMA_3_1_70B
    # Words and places, then queries, keys and values in one, all with biases; one embedding serves both ends.
    layer = linear(768, 3 * 768) + linear(768, 768) + mlp(768, 3072, 768) + 2 * norm(768)
    assert (50_257 + 1024) * 768 + 12 * layer + norm(768) == GPT_2


def test_the_encoders_are_their_sums() -> None:
    # CTViT-V: 13,500 voxels of a patch to 512 values between two norms.
    embedding = norm(13_500) + linear(13_500, 512) + norm(512)
    # A bias from two distances (rows and columns) and one from one (slices), for 8 heads.
    biases = linear(2, 512) + linear(1, 512) + 2 * mlp(512, 512, 8)
    # A 3 x 3 x 3 convolution; attention of 8 x 32 values with scales of queries and keys; a gated layer of 1365.
    position = 27 * 512 + 512
    attention = norm(512) + 512 * 256 + 512 * 512 + 2 * 32 + 256 * 512
    feed_forward = norm(512) + 512 * 2 * 1365 + 1365 * 512
    assert embedding + biases + 8 * (position + attention + feed_forward) + 2 * norm(512) == CTVIT_V
    # Argus: 8 x 16 x 16 and 16 x 32 x 32 voxels of a patch. M3D: 4 x 16 x 16; mu2 takes it on each of eight frames.
    assert vit_b(2048, 2048, class_token=False, qkv_bias=True) == ARGUS_VIT
    assert vit_b(16_384, 4096, class_token=False, qkv_bias=True) == ARGUS_VIT_HIGH
    assert vit_b(1024, 2048, class_token=True, qkv_bias=False) == M3D_VIT
    # RadFM: three times 4 x 32 x 32 voxels; tables of 128, 16 and 16 places of 256 values; 8 x 64 values of queries,
    # keys and values; no norm at the end.
    embedding = norm(12_288) + linear(12_288, 768) + norm(768) + (128 + 16 + 16) * 256
    layer = norm(768) + 768 * 3 * 512 + linear(512, 768) + norm(768) + mlp(768, 2048, 768)
    assert embedding + 12 * layer == RADFM_VIT


def test_every_size_of_a_paper_is_known() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in (CONFIGS / "size").glob("*/*.yaml")}
    assert {name for name in found if name.split("/")[1] not in OURS} == set(PAPERS)


@papers
def test_visual_tokens_and_widths_are_the_papers(name: str) -> None:
    paper, settings = PAPERS[name], config_of(name).policy.settings()
    assert (settings.image_tokens, settings.region_tokens) == (paper.image_tokens, paper.region_tokens)
    assert (settings.encoder.hidden if settings.encoder else 0) == paper.features
    assert size_of(name).hidden == paper.hidden


@papers
def test_parameters_are_the_papers(name: str) -> None:
    paper, size = PAPERS[name], size_of(name)
    assert size.encoder == paper.encoder
    assert size.connector == paper.connector
    assert size.language_model == paper.language_model


@papers
def test_prompt_and_report_fit_the_language_model(name: str) -> None:
    config = config_of(name)
    settings, language = config.policy.settings(), config.policy.language_model
    assert language is not None
    prompt = longest_prompt(config)
    words = words_at_most(re.sub(r"<image>|<region:[^<>]*>", " ", prompt))
    visual = settings.image_tokens + prompt.count("<region:") * settings.region_tokens
    assert prompt.count("<region:") == (len(REGIONS) if settings.region_tokens else 0)
    assert words + visual + config.sampler.max_tokens <= config.sampler.max_length <= language.positions


@papers
def test_the_papers_sizes_are_for_gpus_and_name_what_they_start_from(name: str) -> None:
    config = config_of(name)
    assert (config.learner.dtype, config.learner.gpus, config.sampler.gpus) == ("bfloat16", 1, 1)
    pretrained = config.policy.pretrained
    assert pretrained is not None and pretrained.path is None and "/" in (pretrained.published or "")


def test_adapters_are_the_papers() -> None:
    # Two adapters of rank 8 in each of 32 layers, on queries and values of 4096 (keys and values are as wide).
    assert size_of("reg2rg/7b").adapters == 32 * 2 * 8 * (4096 + 4096)
    # On the one layer of queries, keys and values.
    assert size_of("reg2rg/gpt2").adapters == 12 * 8 * (768 + 3 * 768)
    # On queries and output, keys and values, and the three layers of the feed-forward.
    layer = 2 * (8192 + 8192) + 2 * (8192 + 1024) + 3 * (8192 + 28_672)
    assert size_of("argus/70b").adapters == size_of("argus/70b_high").adapters == 80 * 128 * layer
    for name in ("ct_gpt_pp/7b", "argus/3b", "argus/8b", "mu2/1b"):
        assert size_of(name).adapters == 0


def test_the_page_on_policies_has_these_numbers() -> None:
    text = (PROJECT / "docs" / "policies.md").read_text(encoding="utf-8")
    table = text.partition("## Sizes")[2].partition("\n## ")[0]
    told = {}
    for row in re.findall(r"^\| (`\w+` .*) \|$", table, flags=re.MULTILINE):
        policy, size, _, _, _, *numbers = row.split(" | ")
        told[f"{policy}/{size}".replace("`", "")] = numbers
    expected = {}
    for name, paper in PAPERS.items():
        region = f" + {paper.region_tokens} a region" if paper.region_tokens else ""
        numbers = f"{paper.encoder:,}", f"{paper.connector:,}", f"{paper.language_model:,}"
        expected[name] = [f"{paper.image_tokens}{region}", *numbers]
    assert told == expected
