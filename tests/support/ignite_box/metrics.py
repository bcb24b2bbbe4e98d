"""Cases for every public metric of pytorch-ignite."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from ignite import metrics as im
from ignite.metrics import clustering, fairness, regression
from torch import nn

from support.ignite_box.worlds import CASES, Case, World, case


def batches(make: Callable[[], Any], n: int = 4) -> list[Any]:
    torch.manual_seed(1)
    return [make() for _ in range(n)]


def classes() -> Any:
    return torch.softmax(torch.randn(8, 3), dim=1), torch.randint(3, (8,))


def binary() -> Any:
    return torch.rand(8), torch.randint(2, (8,))


def ones_and_zeros() -> Any:
    return torch.randint(2, (8,)), torch.randint(2, (8,))


def labels() -> Any:
    return torch.randint(2, (8, 3)), torch.randint(2, (8, 3))


def values() -> Any:
    return torch.rand(8) + 0.1, torch.rand(8) + 0.1


def vectors() -> Any:
    return torch.randn(8, 3), torch.randn(8, 3)


def numbers() -> Any:
    return torch.rand(()).item() + 0.1


def images() -> Any:
    return torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)


def features() -> Any:
    return torch.rand(8, 4), torch.rand(8, 4)


def scores() -> Any:
    return torch.softmax(torch.rand(8, 4), dim=1)


def clusters() -> Any:
    return torch.randn(8, 2), torch.arange(8) % 3


def grouped() -> Any:
    return (*classes(), torch.arange(8) % 2)


def ranked() -> Any:
    return torch.rand(4, 5), torch.randint(2, (4, 5)).float()


def tokens() -> Any:
    words = ["the", "valve", "opens", "before", "the", "piston", "moves"]
    order = torch.randperm(len(words)).tolist()
    return [[words[i] for i in order]], [[words]]


def text() -> Any:
    return ["the vlave opens"], ["the valve opens"]


def logits() -> Any:
    return torch.randn(2, 5, 4), torch.randint(5, (2, 4))


def boxes() -> Any:
    corner = torch.rand(3, 2) * 10
    box = torch.cat([corner, corner + 5 + torch.rand(3, 2)], dim=1)
    truth = {"bbox": box, "labels": torch.tensor([0, 1, 1]), "iscrowd": torch.zeros(3)}
    found = {"bbox": box + 0.5, "labels": torch.tensor([0, 1, 0]), "scores": torch.rand(3)}
    return [found], [truth]


def confusion() -> Any:
    return im.ConfusionMatrix(num_classes=3)


class SquaredSum(im.Metric):
    """A metric that a user could write."""

    def reset(self) -> None:
        self.sum = 0.0

    def update(self, output: Any) -> None:
        self.sum += output**2

    def compute(self) -> float:
        return self.sum


METRICS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "Accuracy": (im.Accuracy, classes),
    "Average": (im.Average, numbers),
    "AveragePrecision": (im.AveragePrecision, binary),
    "Bleu": (lambda: im.Bleu(ngram=2, smooth="smooth1"), tokens),
    "CharacterErrorRate": (im.CharacterErrorRate, text),
    "ClassificationReport": (lambda: im.ClassificationReport(output_dict=True), classes),
    "CohenKappa": (im.CohenKappa, ones_and_zeros),
    "CommonObjectDetectionMetrics": (lambda: im.CommonObjectDetectionMetrics(num_classes=2), boxes),
    "ConfusionMatrix": (confusion, classes),
    "CosineSimilarity": (im.CosineSimilarity, vectors),
    "DiceCoefficient": (lambda: im.DiceCoefficient(confusion()), classes),
    "Entropy": (im.Entropy, classes),
    "EpochMetric": (lambda: im.EpochMetric(lambda y_pred, y: (y_pred - y).abs().max().item()), values),
    "FID": (lambda: im.FID(num_features=4, feature_extractor=nn.Identity()), features),
    "Fbeta": (lambda: im.Fbeta(beta=2.0), classes),
    "GeometricAverage": (im.GeometricAverage, numbers),
    "HSIC": (im.HSIC, vectors),
    "HitRate": (lambda: im.HitRate(top_k=[1, 2]), ranked),
    "InceptionScore": (lambda: im.InceptionScore(num_features=4, feature_extractor=nn.Identity()), scores),
    "IoU": (lambda: im.IoU(confusion()), classes),
    "JSDivergence": (im.JSDivergence, vectors),
    "JaccardIndex": (lambda: im.JaccardIndex(confusion()), classes),
    "KLDivergence": (im.KLDivergence, vectors),
    "Loss": (lambda: im.Loss(nn.functional.cross_entropy), classes),
    "MatthewsCorrCoef": (im.MatthewsCorrCoef, ones_and_zeros),
    "MaximumMeanDiscrepancy": (im.MaximumMeanDiscrepancy, vectors),
    "MeanAbsoluteError": (im.MeanAbsoluteError, values),
    "MeanAveragePrecision": (im.MeanAveragePrecision, classes),
    "MeanPairwiseDistance": (im.MeanPairwiseDistance, vectors),
    "MeanSquaredError": (im.MeanSquaredError, values),
    "Metric": (SquaredSum, numbers),
    "MetricGroup": (lambda: im.MetricGroup({"accuracy": im.Accuracy(), "recall": im.Recall()}), classes),
    "MetricsLambda": (lambda: (im.Precision() * im.Recall() * 2 / (im.Precision() + 1)).mean() - 0.5, classes),
    "MultiLabelConfusionMatrix": (lambda: im.MultiLabelConfusionMatrix(num_classes=3), labels),
    "MutualInformation": (im.MutualInformation, classes),
    "NDCG": (lambda: im.NDCG(top_k=[2, 3]), ranked),
    "ObjectDetectionAvgPrecisionRecall": (lambda: im.ObjectDetectionAvgPrecisionRecall(num_classes=2), boxes),
    "PSNR": (lambda: im.PSNR(data_range=1.0), images),
    "Perplexity": (im.Perplexity, logits),
    "Precision": (im.Precision, classes),
    "PrecisionRecallCurve": (im.PrecisionRecallCurve, binary),
    "ROC_AUC": (im.ROC_AUC, binary),
    "Recall": (im.Recall, classes),
    "RocCurve": (im.RocCurve, binary),
    "RootMeanSquaredError": (im.RootMeanSquaredError, values),
    "Rouge": (lambda: im.Rouge(variants=["L", 2]), tokens),
    "RougeL": (im.RougeL, tokens),
    "RougeN": (lambda: im.RougeN(ngram=2), tokens),
    "RunningAverage": (lambda: im.RunningAverage(output_transform=lambda output: output), numbers),
    "SSIM": (lambda: im.SSIM(data_range=1.0), images),
    "TopKCategoricalAccuracy": (lambda: im.TopKCategoricalAccuracy(k=2), classes),
    "VariableAccumulation": (lambda: im.VariableAccumulation(lambda total, x: total + 2 * x), numbers),
    "mIoU": (lambda: im.mIoU(confusion()), classes),
    "CalinskiHarabaszScore": (clustering.CalinskiHarabaszScore, clusters),
    "DaviesBouldinScore": (clustering.DaviesBouldinScore, clusters),
    "SilhouetteScore": (clustering.SilhouetteScore, clusters),
    "DemographicParityDifference": (lambda: fairness.DemographicParityDifference(groups=[0, 1]), grouped),
    "SelectionRate": (fairness.SelectionRate, classes),
    "SubgroupAccuracyDifference": (lambda: fairness.SubgroupAccuracyDifference(groups=[0, 1]), grouped),
    "SubgroupDifference": (lambda: fairness.SubgroupDifference(im.Accuracy(), groups=[0, 1]), grouped),
    "SubgroupMetric": (lambda: fairness.SubgroupMetric(im.Accuracy(), groups=[0, 1]), grouped),
} | {
    name: (getattr(regression, name), values) for name in dir(regression) if inspect.isclass(getattr(regression, name))
}


def use(world: World, metric: Any, outputs: list[Any], *usage: Any) -> list[Any]:
    """Return the results of each iteration and epoch, while the metric is attached and after it is detached."""
    engine, seen = world.engine(lambda engine, batch: batch), []
    metric.attach(engine, "it", *usage)
    seen.append(metric.is_attached(engine, *usage))

    def note(engine: Any) -> None:
        seen.append((engine.state.iteration, dict(engine.state.metrics)))

    engine.add_event_handler(world.events.ITERATION_COMPLETED | world.events.EPOCH_COMPLETED, note)
    engine.run(outputs, max_epochs=2)
    assert any(results for _, results in seen[1:]), "nothing was computed"
    metric.detach(engine, *usage)
    seen.append(metric.is_attached(engine, *usage))
    engine.state.metrics.clear()
    engine.run(outputs, max_epochs=2)
    return seen


def metric_case(make: Callable[[], Any], outputs: Callable[[], Any]) -> Case:
    return lambda world: use(world, make(), batches(outputs))


CASES |= {name: metric_case(*parts) for name, parts in METRICS.items()}

USAGES = ("EpochWise", "RunningEpochWise", "BatchWise", "RunningBatchWise", "SingleEpochRunningBatchWise")
CASES |= {
    name: (lambda world, usage=getattr(im.metric, name)(): use(world, im.Accuracy(), batches(classes), usage))
    for name in USAGES
}


@case("BatchFiltered")
def batch_filtered(world: World) -> Any:
    return use(world, im.Accuracy(), batches(classes), im.BatchFiltered(every=3))


@case("MetricUsage")
def metric_usage(world: World) -> Any:
    events = world.events
    usage = im.MetricUsage(events.STARTED, events.COMPLETED, events.ITERATION_COMPLETED(every=2))
    engine, metric = world.engine(lambda engine, batch: batch), im.Accuracy()
    metric.attach(engine, "it", usage)
    return engine.run(batches(classes), max_epochs=2).metrics, metric.is_attached(engine, usage)


@case("Frequency")
def frequency(world: World) -> Any:
    """Return whether there is a value at each iteration. The value is a speed, and cannot be compared."""
    engine, seen = world.engine(lambda engine, batch: batch), []
    im.Frequency(output_transform=len).attach(engine, "speed")
    engine.add_event_handler(world.events.ITERATION_COMPLETED, lambda e: seen.append(e.state.metrics["speed"] > 0))
    engine.run(["ab", "cde"], max_epochs=2)
    return seen
