import boxmot
import cv2
import deep_sort_realtime.deepsort_tracker
import norfair
import numpy as np
import supervision as sv
import ultralytics
from masa_track import load
from masa_track.adapters.boxmot import ReIDModel
from masa_track.adapters.deepsort import update_tracks
from masa_track.adapters.norfair import embedding_distance, with_embeddings
from masa_track.adapters.ultralytics import use_embeddings

nano, yolo = load("nano"), ultralytics.YOLO("yolo11n.pt")
bot_sort = boxmot.BotSort(reid_model=ReIDModel(nano), use_cmc=False)
deep_sort = deep_sort_realtime.deepsort_tracker.DeepSort(embedder=None)
norfair_tracker = norfair.Tracker(
    distance_function="iou",
    distance_threshold=0.7,
    reid_distance_function=embedding_distance,
    reid_distance_threshold=0.7,
    reid_hit_counter_max=60,
)
video = cv2.VideoCapture("street.mp4")
while (frame := video.read()[1]) is not None:
    found = sv.Detections.from_ultralytics(yolo.predict(frame, verbose=False)[0])
    rows = np.column_stack([found.xyxy, found.confidence, found.class_id]).astype(np.float32)
    by_boxmot = bot_sort.update(rows, frame)  # x1, y1, x2, y2, id, score, class, row
    by_deep_sort = update_tracks(deep_sort, nano, found, frame).tracker_id  # one a row of found, -1 = not tracked
    by_norfair = norfair_tracker.update(with_embeddings(nano, found, frame))  # its objects

use_embeddings(yolo, nano)  # ultralytics' own trackers
yolo.track("street.mp4", tracker="reid.yaml")  # its botsort.yaml with with_reid: True and model: auto
