"""A ROS 2 node that watches an image topic and publishes events as JSON strings.

    ros2 run … or: python examples/ros2_node.py BANK /camera/image_raw

Needs rclpy, sensor_msgs and std_msgs of a ROS 2 installation. `Feed` and `rgb_of` need neither.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

import mafsar


class Feed:
    """Frames from a callback as an iterable: the newest few wait, older ones are dropped."""

    def __init__(self, waiting: int = 8) -> None:
        self._frames: queue.Queue[tuple[float, np.ndarray] | None] = queue.Queue(waiting)

    def put(self, seconds: float, frame: np.ndarray) -> None:
        """Adds a frame (H, W, 3), uint8 RGB; never waits."""
        while True:
            try:
                return self._frames.put_nowait((seconds, frame))
            except queue.Full:
                self._frames.get_nowait()

    def close(self) -> None:
        """Ends the iteration."""
        self._frames.put(None)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        last = float("-inf")
        while (item := self._frames.get()) is not None:
            if item[0] > last:  # stamps of a bag that is looped step back
                last = item[0]
                yield item


def rgb_of(message: Any) -> np.ndarray:
    """The picture of a sensor_msgs/Image in rgb8 or bgr8, (H, W, 3)."""
    if message.encoding not in ("rgb8", "bgr8"):
        raise ValueError(f"encoding {message.encoding!r} is neither rgb8 nor bgr8")
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * 3].reshape(message.height, message.width, 3)
    return np.ascontiguousarray(pixels[..., ::-1] if message.encoding == "bgr8" else pixels)


def main() -> None:
    import rclpy
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    bank, topic = sys.argv[1:3]
    rclpy.init()
    node = rclpy.create_node("mafsar_watch")
    publisher = node.create_publisher(String, "~/events", 10)
    feed = Feed()

    def take(message: Image) -> None:
        stamp = message.header.stamp
        feed.put(stamp.sec + stamp.nanosec * 1e-9, rgb_of(message))

    node.create_subscription(Image, topic, take, 10)

    def watch() -> None:
        for event in mafsar.watch(bank, feed):
            publisher.publish(String(data=json.dumps(event.to_json())))

    threading.Thread(target=watch, daemon=True).start()
    try:
        rclpy.spin(node)
    finally:
        feed.close()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
