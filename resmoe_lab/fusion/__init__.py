"""Model fusion: whole networks aligned and averaged by optimal transport."""

from .._core.deprecation import deprecated_names
from .alignment import AlignedNetwork, align
from .baselines import Ensemble, vanilla_average
from .evaluation import (
    ENSEMBLE,
    FUSED,
    VANILLA,
    WEIGHT,
    compare,
    mixing_curve,
    repair_pruned,
    student_initializations,
    train_students,
)
from .fusing import Fusion, fuse
from .graph import Graph, Layer
from .images import Images, cifar10_sample, mnist, skill_split
from .known_graphs import graph_of, mlpnet_graph, resnet18_graph, vgg11_graph
from .networks import VGG11, MLPNet, ResNet18
from .pruning import prune_neurons
from .serialization import load_mlpnet, save_network
from .tracing import trace_graph
from .training import Teacher, accuracy, class_accuracies, predict, recalibrate_batch_norm, train

__all__ = [
    "ENSEMBLE",
    "FUSED",
    "VANILLA",
    "VGG11",
    "WEIGHT",
    "AlignedNetwork",
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
    "graph_of",
    "load_mlpnet",
    "mixing_curve",
    "mlpnet_graph",
    "mnist",
    "predict",
    "prune_neurons",
    "recalibrate_batch_norm",
    "repair_pruned",
    "resnet18_graph",
    "save_network",
    "skill_split",
    "student_initializations",
    "trace_graph",
    "train",
    "train_students",
    "vanilla_average",
    "vgg11_graph",
]

__getattr__ = deprecated_names(
    __name__,
    {
        "PLAIN": "VANILLA",
        "Aligned": "AlignedNetwork",
        "fused_starts": "student_initializations",
        "learn_from": "train_students",
        "renorm": "recalibrate_batch_norm",
    },
)
