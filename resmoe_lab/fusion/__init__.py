"""Whole networks aligned and averaged by optimal transport: knows networks, and no language model."""

from .alignment import Aligned, align
from .fusing import Fusion, fuse
from .graph import Graph, Layer
from .images import Images, cifar10_sample, mnist, skill_split
from .networks import VGG11, MLPNet, ResNet18
from .peers import Ensemble, vanilla_average
from .pruning import prune_neurons
from .saved import load_mlpnet, save_network
from .specs import graph_of, mlpnet_graph, resnet18_graph, vgg11_graph
from .tracing import trace_graph
from .training import Teacher, accuracy, class_accuracies, predict, renorm, train
from .uses import (
    ENSEMBLE,
    FUSED,
    PLAIN,
    WEIGHT,
    compare,
    fused_starts,
    learn_from,
    mixing_curve,
    repair_pruned,
)

__all__ = [
    "ENSEMBLE",
    "FUSED",
    "PLAIN",
    "VGG11",
    "WEIGHT",
    "Aligned",
    "Ensemble",
    "Fusion",
    "Graph",
    "Images",
    "Layer",
    "MLPNet",
    "ResNet18",
    "Teacher",
    "accuracy",
    "align",
    "cifar10_sample",
    "class_accuracies",
    "compare",
    "fuse",
    "fused_starts",
    "graph_of",
    "learn_from",
    "load_mlpnet",
    "mixing_curve",
    "mlpnet_graph",
    "mnist",
    "predict",
    "prune_neurons",
    "renorm",
    "repair_pruned",
    "resnet18_graph",
    "save_network",
    "skill_split",
    "trace_graph",
    "train",
    "vanilla_average",
    "vgg11_graph",
]
