import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from pseudo_jobs import keep, prepared
from typer.testing import CliRunner

from carpus import augment, competition, data, evaluate, kernels, losses, run, schedule, train
from carpus.batches import Batches, Others
from carpus.cli import app
from carpus.data import Doubt
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import annotations, convert, images
from carpus.labels import BONES
from carpus.postprocess import Calibration, Step
from carpus.pseudo import decisions, make, provenance, quality, trust
from carpus.pseudo.decisions import Decision
from carpus.pseudo.provenance import Seen, Taught
from carpus.pseudo.sources import Sources

SETTINGS = augment.Settings(rotation_deg=10, flip=True, noise=0.02)


@pytest.fixture(scope="session")
def pseudo(dataset, trained, tmp_path_factory):
    """Pseudo-labels of the test images by a run that held out fold 0."""
    out = tmp_path_factory.mktemp("pseudo") / "data"
    make.make([trained], dataset / "test" / "DCM", out)
    keep(out, "Ulna")
    return out


def test_a_bone_that_does_not_count_gets_no_gradient_and_neither_does_a_doubtful_pixel():
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.randint(0, 8, (2, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    labels[0, :2] |= 8
    counted = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    for batch in (False, True):
        loss = losses.build({"bce": 1, "dice": 1}, batch=batch)
        (gradient,) = torch.autograd.grad(loss(logits, labels, counted=counted, ignore=3), logits)
        assert (gradient[0, 1] == 0).all()
        assert (gradient[0, :, :2] == 0).all()
        assert (gradient[0, 0, 2:] != 0).all()
        assert (gradient[1] != 0).all()


def test_a_loss_with_doubts_is_the_mean_of_its_parts():
    logits, labels = torch.randn(4, 3, 4, 4), torch.randint(0, 8, (4, 4, 4), dtype=torch.int32)
    counted = torch.rand(4, 3)
    loss = losses.build({"dice": 1})
    halves = [loss(logits[n : n + 2], labels[n : n + 2], counted=counted[n : n + 2]) for n in (0, 2)]
    assert torch.stack(halves).mean().item() == pytest.approx(loss(logits, labels, counted=counted).item(), rel=1e-6)
    assert loss(logits, labels, counted=torch.ones(4, 3)).item() == loss(logits, labels).item()


def test_the_others_take_their_share_of_every_batch_and_the_rest_keeps_its_order(dataset):
    cases = data.read(dataset).train
    own, others = cases[:5], cases[5:]
    cache = data.Cache(BONES, 64, 96, 1 << 28)
    plain = Batches(own, cache, SETTINGS, batch_size=4, seed=5)
    mixed = Batches(own, cache, SETTINGS, batch_size=4, seed=5, others=Others(others, SETTINGS, 0.25, 0.5, 6))
    drawn = [mixed.cases_of(step) for step in range(9)]
    assert [sum(case in others for case in batch) for batch in drawn] == [1] * 6 + [0] * 3
    rest = [case.name for batch in drawn for case in batch if case in own]
    assert rest == [case.name for step in range(9) for case in plain.cases_of(step)][: len(rest)]
    batch = mixed(2)
    assert batch.counted is not None
    worth = [0.5 if case in others else 1.0 for case in batch.cases]
    assert np.array_equal(batch.counted.numpy(), np.repeat(np.array(worth, np.float32)[:, None], len(BONES), axis=1))
    again = mixed(2)
    assert torch.equal(batch.images, again.images)
    assert batch.ignore is None
    assert mixed(7).counted is None


def test_doubts_reach_the_batch_and_are_warped_with_the_labels(dataset):
    case = data.read(dataset).train[0]
    radius, ulna = BONES.index("Radius"), BONES.index("Ulna")
    doubt = Doubt(frozenset({radius, ulna}), frozenset({ulna}), np.array([[96 * 40, 96 * 10]]))
    doubted = data.Case(case.name, case.patient, case.image, case.annotation, doubt)
    still = augment.Settings()
    batch = Batches([doubted], data.Cache(BONES, 64, 96, 1 << 28), still, batch_size=1, seed=0)(0)
    assert batch.ignore == len(BONES)
    marked = batch.labels[0].numpy() >> len(BONES) & 1
    assert marked[40:50].all()
    assert marked.sum() == 10 * 96
    truth = data.read_labels(case)
    truth &= ~np.int32(1 << ulna)
    assert np.array_equal(batch.labels[0].numpy() & (1 << len(BONES)) - 1, truth)
    assert batch.counted is not None
    assert np.flatnonzero(batch.counted[0].numpy() == 0).tolist() == sorted([radius, ulna])
    turned = Batches(
        [doubted], data.Cache(BONES, 64, 96, 1 << 28), SETTINGS, batch_size=1, seed=0, crop=augment.Crop(32, 1.0, 29)
    )(3)
    assert turned.labels.shape == (1, 48, 48)


def test_who_takes_all_labels_is_told_the_quality_of_all(dataset, pseudo, tiny, tmp_path):
    told = []
    settings = tiny(f"data.pseudo.root={pseudo}", "data.pseudo.selection=false", "train.steps=1")
    train.train(settings, dataset, tmp_path / "run", tell=told.append)
    dice = provenance.read(pseudo).content["quality"]["dice"]
    assert f"all of their bones count, selected or not; out of fold the Dice of all is {dice:.4f}, +0.0000" in told[0]


def test_a_run_with_pseudo_labels_says_what_it_learnt_and_its_scores_are_transductive(
    dataset, trained, pseudo, tiny, tmp_path
):
    told = []
    settings = tiny(f"data.pseudo.root={pseudo}", "train.steps=4", "data.pseudo.until=0.5")
    train.train(settings, dataset, tmp_path / "run", tell=told.append)
    assert "advised against" in told[0]
    assert "pseudo-labelled images" in told[0]
    manifest = run.read(tmp_path / "run").manifest
    assert manifest["pseudo"]["seen"] == sorted(run.read(trained).manifest["train_patients"])
    test = data.read(dataset).test
    assert set(manifest["pseudo"]["images"]) == {case.name for case in test}
    result = CliRunner().invoke(
        app,
        [
            "evaluate",
            str(tmp_path / "run"),
            "--data",
            str(dataset),
            "--split",
            "test",
            "--report",
            f"{tmp_path}/p.html",
        ],
    )
    assert result.exit_code == 0, result.output
    assert f"Transductive: {len(test)} of {len(test)}" in " ".join(result.output.split())
    assert "Transductive" in (tmp_path / "p.html").read_text()
    table = evaluate.evaluate([run.read(tmp_path / "run")], data.read(dataset), "val")
    assert "transductive" not in evaluate.summary(table, BONES)
    sheet = dataset / "test_labels" / "submission.csv"
    result = CliRunner().invoke(
        app, ["score", str(sheet), "--truth", str(dataset), "--run", str(tmp_path / "run"), "--json"]
    )
    assert json.loads(result.stdout)["transductive"] == len(test)
    # Weights that are handed on take along what they learnt from.
    train.train(tiny("train.steps=1", f"model.weights={tmp_path / 'run' / run.WEIGHTS}"), dataset, tmp_path / "tuned")
    tuned = run.read(tmp_path / "tuned")
    assert tuned.manifest["pseudo"] is None
    assert evaluate.transductive(tuned, test) == {case.name for case in test}
    result = CliRunner().invoke(
        app, ["score", str(sheet), "--truth", str(dataset), "--run", str(tmp_path / "tuned"), "--json"]
    )
    assert json.loads(result.stdout)["transductive"] == len(test)
    # The next round's labels would tell about the same patients.
    make.make([tmp_path / "run"], dataset / "test" / "DCM", tmp_path / "second")
    with pytest.raises(DataError, match="were trained or calibrated on patient"):
        prepared(tiny(f"data.pseudo.root={tmp_path / 'second'}", "data.fold=1"), dataset)


def test_labels_by_a_network_that_saw_the_validation_patients_are_refused(dataset, pseudo, tiny):
    with pytest.raises(
        DataError,
        match=r"provenance.json: sources: were trained or calibrated on patient ID\d+ \(2 validation patients",
    ):
        prepared(tiny(f"data.pseudo.root={pseudo}", "data.fold=1"), dataset)


def test_images_of_validation_patients_are_refused_under_any_name(dataset, trained, pseudo, copy, tiny):
    held_out = run.read(trained).manifest["val_patients"]
    case = next(case for case in data.read(dataset).train if case.patient in held_out)
    shutil.copy(case.image, data.read(copy).train[0].image.with_name("other.png"))
    annotation = data.read(copy).train[0].annotation
    shutil.copy(annotation, annotation.with_name("other.json"))
    with pytest.raises(DataError, match=f"images of patient {case.patient}"):
        prepared(tiny(f"data.pseudo.root={copy}"), dataset)


def test_an_image_of_a_validation_patient_is_known_however_it_was_saved(dataset, trained, copy, tiny):
    held_out = run.read(trained).manifest["val_patients"]
    case = next(case for case in data.read(dataset).train if case.patient in held_out)
    other = data.read(copy).train[0].image
    other.unlink()  # it may be a link to the data set's own
    cv2.imwrite(str(other), data.read_image(case.image), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert other.read_bytes() != case.image.read_bytes()
    with pytest.raises(DataError, match=f"images of patient {case.patient}"):
        prepared(tiny(f"data.pseudo.root={copy}"), dataset)


def test_the_folder_and_its_provenance_must_agree(dataset, copy, tiny):
    settings = tiny(f"data.pseudo.root={copy}")
    case = data.read(copy).train[0]
    pixels = data.read_image(case.image)
    added = case.image.with_name("new.png")
    images.write(added, 255 - pixels)
    shutil.copy(case.annotation, case.annotation.with_name("new.json"))
    with pytest.raises(DataError, match=r"new: provenance.json does not know this image"):
        prepared(settings, dataset)
    added.unlink()
    prepared(settings, dataset)
    case.annotation.write_text(case.annotation.read_text() + "\n")
    with pytest.warns(DataWarning, match="is not what `carpus pseudo` wrote"):
        prepared(settings, dataset)
    trust.path_of(copy, case.name).unlink()
    with pytest.warns(DataWarning), pytest.raises(DataError, match="nobody knows what of the labels counts"):
        prepared(settings, dataset)
    with pytest.warns(DataWarning):
        prepared(tiny(f"data.pseudo.root={copy}", "data.pseudo.selection=false"), dataset)


def test_a_calibration_counts_as_taught_by_the_patients_it_was_fitted_on(dataset, trained, tiny, tmp_path):
    opened = run.read(trained)
    patients = opened.manifest["val_patients"]
    Calibration({}, opened.classes, fitted_on=patients).write(tmp_path / "cal.json")
    choices = make.Choices(calibration=tmp_path / "cal.json", student=trained)
    found = make.make([trained], dataset / "test" / "DCM", tmp_path / "data", choices=choices)
    learnt = opened.manifest["train_patients"]
    assert found.provenance.seen == Seen(frozenset([*learnt, *patients]))
    assert "the calibration was fitted on these patients" in found.provenance.advice()
    with pytest.raises(DataError, match="trained or calibrated on patient"):
        prepared(tiny(f"data.pseudo.root={tmp_path / 'data'}"), dataset)
    Calibration({}, opened.classes).write(tmp_path / "cal.json")  # as one that does not say on whom
    unknown = make.make([trained], dataset / "test" / "DCM", tmp_path / "unknown", choices=choices)
    assert unknown.provenance.seen == Seen(frozenset(learnt), unknown=True)


def test_the_student_has_the_calibration_of_the_labels(dataset, trained, tmp_path):
    opened = run.read(trained)
    steps = dict.fromkeys(opened.classes, Step(threshold=0.501, temperature=3.0))
    Calibration(steps, opened.classes, fitted_on=[]).write(tmp_path / "cal.json")
    sources = Sources([trained], opened.classes, (96, 96), calibration=tmp_path / "cal.json")
    known = quality.out_of_fold(sources, dataset, student=opened)
    assert np.array_equal(known.student, known.dice)
    assert known.dice.any()
    assert not known.in_sample


def test_a_run_has_seen_the_patients_of_the_weights_it_started_from(dataset, trained, tiny, tmp_path):
    weights = shutil.copytree(trained, tmp_path / "first") / run.WEIGHTS
    manifest = json.loads((weights.parent / run.MANIFEST).read_text())
    first = {"ID997"}
    (weights.parent / run.MANIFEST).write_text(json.dumps(manifest | {"train_patients": sorted(first)}))
    train.train(tiny("train.steps=1", f"model.weights={weights}"), dataset, tmp_path / "second")
    second = run.read(tmp_path / "second")
    assert second.manifest["start_sha256"] == run.read(trained).manifest["files"][run.WEIGHTS]
    own = set(second.manifest["train_patients"])
    assert provenance.seen_by(second) == Seen(frozenset(first | own))
    del second.manifest["start"]  # as a run of before has it
    assert provenance.seen_by(second) == Seen(frozenset(first | own))
    shutil.copy(trained / run.WEIGHTS, tmp_path / "elsewhere.safetensors")
    assert provenance.taught(str(tmp_path / "elsewhere.safetensors")) == Taught(Seen(unknown=True))
    assert provenance.taught("imagenet") == provenance.taught(None) == Taught()
    for start in (["ID998", None], None):
        second.manifest["start"] = start
        known = own | ({"ID998"} if start else set())
        assert provenance.seen_by(second) == Seen(frozenset(known), unknown=True)
        assert provenance.seen_by(second, ["ID999"]) == Seen(frozenset({*known, "ID999"}))


def test_weights_that_know_the_validation_or_test_patients_are_refused(dataset, trained, tiny, tmp_path):
    weights = f"model.weights={trained / run.WEIGHTS}"
    assert prepared(tiny(weights), dataset).start.seen.patients
    with pytest.raises(DataError, match=r"were trained on patient ID\d+ \(2 validation patients\)"):
        prepared(tiny(weights, "data.fold=1"), dataset)
    shutil.copy(trained / run.WEIGHTS, tmp_path / "copy.safetensors")
    prepared(tiny(f"model.weights={tmp_path / 'copy.safetensors'}", "data.fold=1"), dataset)
    told = shutil.copytree(trained, tmp_path / "told")
    manifest = json.loads((told / run.MANIFEST).read_text())
    learnt = [data.read(dataset).test[0].patient]
    (told / run.MANIFEST).write_text(json.dumps(manifest | {"train_patients": learnt}))
    with pytest.raises(DataError, match=rf"on patient {learnt[0]} \(1 test patients\)"):
        prepared(tiny(f"model.weights={told / run.WEIGHTS}"), dataset)


def test_patients_that_are_known_stay_known_beside_the_unknown(dataset, trained, tiny, tmp_path):
    sheet = dataset / "test_labels" / "submission.csv"
    found = make.make([sheet, trained], dataset / "test" / "DCM", tmp_path / "data").provenance
    learnt = run.read(trained).manifest["train_patients"]
    assert found.seen == Seen(frozenset(learnt), unknown=True)
    assert [source["seen"] for source in found.content["sources"]] == [[None], learnt]
    keep(tmp_path / "data", "Ulna")
    unverified = f"data.pseudo.root={tmp_path / 'data'}", "data.pseudo.unverified=true"
    made = prepared(tiny(*unverified), dataset)
    assert made.pseudo is not None
    with pytest.raises(DataError, match=r"were trained or calibrated on patient ID\d+ \(2 validation patients"):
        prepared(tiny(*unverified, "data.fold=1"), dataset)


def test_files_of_before_have_a_null_for_the_unknown():
    assert Seen.read(None) == Seen(unknown=True)
    assert Seen.read(["ID002", "ID001"]).as_json() == ["ID001", "ID002"]
    assert Seen.read(["ID001", None]).as_json() == ["ID001", None]


def test_a_student_of_whom_nobody_knows_what_it_saw_is_refused(dataset, trained):
    sources = Sources([trained], BONES, (96, 96))
    student = run.read(trained)
    student.manifest["pseudo"] = {"seen": None}
    with pytest.raises(DataError, match="nobody knows which patients this student has learnt from"):
        quality.out_of_fold(sources, dataset, student=student)


def test_labels_of_unknown_origin_are_refused_unless_it_is_said(dataset, tiny, tmp_path):
    sheet = dataset / "test_labels" / "submission.csv"
    make.make([sheet], dataset / "test" / "DCM", tmp_path / "unknown")
    with pytest.raises(DataError, match="nobody knows which patients"):
        prepared(tiny(f"data.pseudo.root={tmp_path / 'unknown'}"), dataset)
    prepared(tiny(f"data.pseudo.root={tmp_path / 'unknown'}", "data.pseudo.unverified=true"), dataset)
    known = make.Choices(seen=["ID999"])
    make.make([sheet], dataset / "test" / "DCM", tmp_path / "known", choices=known)
    prepared(tiny(f"data.pseudo.root={tmp_path / 'known'}"), dataset)


def test_a_folder_of_predictions_is_no_truth(pseudo, tiny, tmp_path):
    with pytest.raises(ConfigError, match="no truth to validate on"):
        prepared(tiny(), pseudo)
    convert.convert(pseudo, tmp_path / "sheet.csv")
    with pytest.warns(DataWarning, match="predictions of `carpus pseudo`, no truth"):
        competition.score(tmp_path / "sheet.csv", pseudo)


def test_the_naive_way_lets_everything_count_but_what_people_decided(dataset, copy, tiny):
    selected = prepared(tiny(f"data.pseudo.root={copy}"), dataset).batches.others
    naive = prepared(tiny(f"data.pseudo.root={copy}", "data.pseudo.selection=false"), dataset).batches.others
    assert selected is not None
    assert naive is not None
    assert all(case.doubt and case.doubt.ignored for case in selected.cases)  # it has learnt nothing
    assert not any(case.doubt for case in naive.cases)
    name = naive.cases[0].name
    decisions.write(copy, {(name, "Lunate"): Decision("reject"), (name, "Radius"): Decision("accept")})
    decided = trust.trusted(data.read(copy).train, copy, BONES, selection=False)[0]
    assert decided.doubt == Doubt(frozenset({BONES.index("Lunate")}), frozenset({BONES.index("Lunate")}))
    whole = trust.trusted(data.read(copy).train, copy, BONES)[0].doubt
    assert whole is not None
    assert BONES.index("Radius") not in whole.ignored
    again = prepared(tiny(f"data.pseudo.root={copy}"), dataset)
    first = prepared(tiny(f"data.pseudo.root={copy}"), dataset)
    assert again.identity() == first.identity()
    decisions.decide(copy, name, "Capitate", "ignore")
    assert prepared(tiny(f"data.pseudo.root={copy}"), dataset).identity() != first.identity()


def test_settings_of_pseudo_labels_without_any_are_refused(dataset, tiny):
    with pytest.raises(ConfigError, match=r"data.pseudo: share, until: without data.pseudo.root there are no"):
        prepared(tiny("data.pseudo.until=0.5", "data.pseudo.share=0.3"), dataset)
    assert prepared(tiny("data.pseudo.until=0.5", "data.pseudo.root=null"), dataset).pseudo is None


def test_an_image_that_is_annotated_and_predicted_is_told(dataset, trained, tiny, tmp_path):
    patients = run.read(trained).manifest["train_patients"]
    for patient in patients:
        shutil.copytree(dataset / "train" / "DCM" / patient, tmp_path / "DCM" / patient)
    make.make([trained], tmp_path / "DCM", tmp_path / "labels")
    keep(tmp_path / "labels", "Ulna")
    with pytest.warns(DataWarning, match=rf"holds {patients[0]}/\w+, which is annotated in --data \(4 such\)"):
        prepared(tiny(f"data.pseudo.root={tmp_path / 'labels'}"), dataset)


def test_labels_none_of_which_counts_are_refused(dataset, copy, tiny):
    settings = tiny(f"data.pseudo.root={copy}")
    names = [case.name for case in data.read(copy).train]
    decisions.write(copy, {(name, "Ulna"): Decision("ignore") for name in names})
    with pytest.raises(DataError, match=r"not one label of its 4 images counts.*the selection .* and decisions.csv"):
        prepared(settings, dataset)
    decisions.decide(copy, names[0], "Ulna", "accept")
    prepared(settings, dataset)


def test_decisions_about_annotations_are_honoured_too(dataset, tiny, tmp_path):
    root = shutil.copytree(dataset, tmp_path / "data")
    found = prepared(tiny(), root)
    decisions.decide(root, found.learn[0].name, "Ulna", "ignore")
    decided = prepared(tiny(), root)
    assert decided.learn[0].doubt == Doubt(frozenset({BONES.index("Ulna")}))
    assert found.identity() != decided.identity()
    decisions.decide(root, found.learn[0].name, "Ulnar", "ignore")
    with pytest.raises(DataError, match="unknown class 'Ulnar'"):
        prepared(tiny(), root)


def test_a_decision_about_an_image_that_is_not_there_is_an_error(dataset, tiny, tmp_path):
    root = shutil.copytree(dataset, tmp_path / "data")
    found = data.read(root)
    of_any = {(case.name, "Ulna"): Decision("ignore") for case in (*found.train, *found.test)}
    decisions.write(root, of_any)
    prepared(tiny(), root)
    name = found.train[0].name
    for wrong, hint in ((f"{name}.png", f"without suffix it is {name}"), ("nosuch/image", "$")):
        decisions.write(root, of_any | {(wrong, "Lunate"): Decision("reject")})
        with pytest.raises(DataError, match=rf"decisions.csv: image: there is no '{wrong}' \(1 such\).*{hint}"):
            prepared(tiny(), root)


def test_accepted_bones_have_no_pixel_in_doubt(copy):
    case = data.read(copy).train[0]
    labels = np.zeros((96, 96), np.int32)
    labels[10:20, 10:20] = 1 << BONES.index("Radius")
    labels[10:20, 20:30] = 1 << BONES.index("Ulna")
    annotations.write(case.annotation, labels, BONES, case.image.name)
    band = kernels.encode(np.pad(np.ones((4, 30), np.int32), ((8, 84), (5, 61))), 1)[0]
    bones = dict.fromkeys(BONES, trust.Bone(True))
    trust.write(copy, case.name, trust.Found("0" * 64, bones, band))
    decisions.decide(copy, case.name, "Radius", "accept")
    doubt = trust.trusted([case], copy, BONES)[0].doubt
    assert doubt is not None
    left = kernels.decode([doubt.pixels], (96, 96))
    assert not left[10:12, 10:20].any()
    assert left.sum() == 4 * 30 - 2 * 10


def test_stronger_limits_stay_possible():
    strong = augment.Settings(rotation_deg=100, scale=0.2, shift=0.6, flip=True, blur=2).stronger(2)
    assert strong == augment.Settings(rotation_deg=180, scale=0.4, shift=1, flip=True, blur=4)


def test_doubtful_pixels_are_kept_as_run_lengths(tmp_path):
    found = trust.Found("0" * 64, {"Lunate": trust.Bone(False, ("size",), {"size": 5.0})}, np.array([[3, 4], [12, 1]]))
    trust.write(tmp_path, "ID001/a", found)
    back = trust.read(tmp_path, "ID001/a", (4, 4), BONES)
    assert back is not None
    assert back.bones == found.bones
    assert back.doubtful.tolist() == [[3, 4], [12, 1]]
    with pytest.raises(DataError, match="doubtful"):
        trust.read(tmp_path, "ID001/a", (2, 4), BONES)
    assert trust.read(tmp_path, "ID001/b", (4, 4), BONES) is None


def test_a_longer_run_with_fewer_pseudo_labels_begins_a_schedule_anew(tiny):
    options = tiny("train.schedule=constant", "train.warmup=0").train
    assert schedule.lengthened(options, 3, 6)[1]
    assert not schedule.lengthened(options, 3, 6, fading=True)[1]
