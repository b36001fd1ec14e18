import cv2
import supervision as sv
from masa_track import MasaTracker

tracker, smoother = MasaTracker(track_activation_threshold=0.25), sv.DetectionsSmoother()
trace = sv.TraceAnnotator(color_lookup=sv.ColorLookup.TRACK)
line = sv.LineZone(start=sv.Point(0, 240), end=sv.Point(640, 240))
video = cv2.VideoCapture("street.mp4")
while (frame := video.read()[1]) is not None:
    detections = tracker.update(yolo(frame), frame)
    tracked = detections[detections.tracker_id >= 0]  # supervision's tools may take all rows of -1 for one object
    line.trigger(tracked)
    frame = trace.annotate(frame, smoother.update_with_detections(tracked))
print(line.in_count, line.out_count)
