"""Reads an export by the tools' own packages; run by `test_export.py` in an environment that has them.

    python export_readers.py datumaro FILE.xml | labelstudio FILE.json CONFIG.xml

Prints what was understood as json.
"""

import json
import sys

tool, path = sys.argv[1:3]
if tool == "datumaro":
    from datumaro import Dataset

    dataset = Dataset.import_from(path, "cvat")
    labels = next(iter(dataset.categories().values()))
    boxes = [
        [item.attributes["frame"], shape.attributes, shape.points, labels[shape.label].name]
        for item in dataset
        for shape in item.annotations
    ]
    print(json.dumps(boxes, default=str))
else:
    from label_studio_sdk._extensions.label_studio_tools.postprocessing.video import extract_key_frames
    from label_studio_sdk.label_interface import LabelInterface

    with open(path) as file:
        tasks = json.load(file)
    with open(sys.argv[3]) as file:
        interface = LabelInterface(file.read())
    interface.validate()
    errors = [error for task in tasks for p in task["predictions"] for error in interface.validate_prediction(p, True)]
    valid = [interface.validate_task({"data": task["data"]}) for task in tasks]  # with predictions it fails, 2.1.2
    frames = [extract_key_frames(prediction["result"]) for task in tasks for prediction in task["predictions"]]
    print(json.dumps({"errors": errors, "valid": valid, "results": frames}))
