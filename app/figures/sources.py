"""The papers that pages name, as BibTeX: one table, found by arXiv id."""

import re
from typing import NamedTuple

ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")


class Source(NamedTuple):
    """A paper."""

    key: str
    authors: str
    title: str
    year: int


SOURCES: dict[str, Source] = {
    "1701.04128": Source(
        "luo2016effective", "Luo, Wenjie and Li, Yujia and Urtasun, Raquel and Zemel, Richard",
        "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", 2016,
    ),
    "1703.01365": Source(
        "sundararajan2017axiomatic", "Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi",
        "Axiomatic Attribution for Deep Networks", 2017,
    ),
    "1802.03426": Source(
        "mcinnes2018umap", "McInnes, Leland and Healy, John and Melville, James",
        "{UMAP}: Uniform Manifold Approximation and Projection for Dimension Reduction", 2018,
    ),
    "1805.01978": Source(
        "wu2018unsupervised", "Wu, Zhirong and Xiong, Yuanjun and Yu, Stella X. and Lin, Dahua",
        "Unsupervised Feature Learning via Non-Parametric Instance-level Discrimination", 2018,
    ),
    "1806.07421": Source(
        "petsiuk2018rise", "Petsiuk, Vitali and Das, Abir and Saenko, Kate",
        "{RISE}: Randomized Input Sampling for Explanation of Black-box Models", 2018,
    ),
    "1909.03368": Source(
        "hewitt2019designing", "Hewitt, John and Liang, Percy",
        "Designing and Interpreting Probes with Control Tasks", 2019,
    ),
    "2005.00928": Source(
        "abnar2020quantifying", "Abnar, Samira and Zuidema, Willem", "Quantifying Attention Flow in Transformers", 2020,
    ),
    "2010.11929": Source(
        "dosovitskiy2020image", "Dosovitskiy, Alexey and others",
        "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2020,
    ),
    "2010.15327": Source(
        "nguyen2020wide", "Nguyen, Thao and Raghu, Maithra and Kornblith, Simon",
        "Do Wide and Deep Networks Learn the Same Things? Uncovering How Neural Network Representations Vary with Width and "
        "Depth", 2020,
    ),
    "2103.15679": Source(
        "chefer2021generic", "Chefer, Hila and Gur, Shir and Wolf, Lior",
        "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers", 2021,
    ),
    "2106.07682": Source(
        "bansal2021revisiting", "Bansal, Yamini and Nakkiran, Preetum and Barak, Boaz",
        "Revisiting Model Stitching to Compare Neural Representations", 2021,
    ),
    "2111.06377": Source(
        "he2021masked",
        "He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r, Piotr and Girshick, Ross",
        "Masked Autoencoders Are Scalable Vision Learners", 2021,
    ),
    "2203.06717": Source(
        "ding2022scaling", "Ding, Xiaohan and Zhang, Xiangyu and Han, Jungong and Ding, Guiguang",
        "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in {CNNs}", 2022,
    ),
    "2205.13543": Source(
        "xie2022revealing", "Xie, Zhenda and others", "Revealing the Dark Secrets of Masked Image Modeling", 2022,
    ),
    "2210.08344": Source(
        "zhang2022mask", "Zhang, Qi and Wang, Yifei and Wang, Yisen",
        "How Mask Matters: Towards Theoretical Understandings of Masked Autoencoders", 2022,
    ),
    "2305.00729": Source(
        "park2023what", "Park, Namuk and Kim, Wonjae and Heo, Byeongho and Kim, Taekyung and Yun, Sangdoo",
        "What Do Self-Supervised Vision Transformers Learn?", 2023,
    ),
    "2306.04898": Source(
        "kong2023understanding", "Kong, Lingjing and others",
        "Understanding Masked Autoencoders via Hierarchical Latent Variable Models", 2023,
    ),
    "2310.01994": Source(
        "yue2023understanding", "Yue, Xiaoyu and others",
        "Understanding Masked Autoencoders From a Local Contrastive Perspective", 2023,
    ),
    "2401.14391": Source(
        "fu2024rethinking", "Fu, Letian and Lian, Long and Wang, Renhao and Shi, Baifeng and Wang, Xudong and Yala, Adam and "
        "Darrell, Trevor and Efros, Alexei A. and Goldberg, Ken",
        "Rethinking Patch Dependence for Masked Autoencoders", 2024,
    ),
    "2412.03215": Source(
        "przewiezlikowski2024beyond", "Przewi{\\k{e}}{\\'z}likowski, Marcin and others",
        "Beyond [cls]: Exploring the true potential of Masked Image Modeling representations", 2024,
    ),
    "2502.08769": Source(
        "darcet2025cluster",
        "Darcet, Timoth{\\'e}e and Baldassarre, Federico and Oquab, Maxime and Mairal, Julien and Bojanowski, Piotr",
        "Cluster and Predict Latent Patches for Improved Masked Image Modeling", 2025,
    ),
    "2506.10178": Source(
        "psomas2025attention", "Psomas, Bill and others",
        "Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency", 2025,
    ),
    "2508.15404": Source(
        "bisulco2025linearity",
        "Bisulco, Anthony and Ramesh, Rahul and Balestriero, Randall and Chaudhari, Pratik",
        "From Linearity to Non-Linearity: How Masked Autoencoders Capture Spatial Correlations", 2025,
    ),
}  # fmt: skip
"""arXiv id -> the paper; years are those of arXiv, or of the conference where it came first."""

WITHOUT_TITLE = frozenset({"2604.00172"})
"""Papers that pages name and whose titles were not at hand: their entries are links alone."""


def bibtex(words: str) -> str:
    """The entries of every paper whose arXiv id stands in `words`, in order, each once."""
    return "\n\n".join(_entry(number) for number in dict.fromkeys(ARXIV.findall(words)))


def _entry(number: str) -> str:
    link = f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}},\n  url = {{https://arxiv.org/abs/{number}}},\n}}"
    if number not in SOURCES:
        return f"@misc{{arxiv{number.replace('.', '')},\n{link}"
    key, authors, title, year = SOURCES[number]
    return f"@misc{{{key},\n  author = {{{authors}}},\n  title = {{{title}}},\n  year = {{{year}}},\n{link}"
