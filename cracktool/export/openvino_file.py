"""A network as a model of OpenVINO, made of its ONNX file: an .xml file of the graph and a .bin file of the tensors.

Converts; compares nothing.
"""

from __future__ import annotations

from pathlib import Path


def write_openvino(onnx_file: Path, xml: Path, *, half: bool) -> None:
    """Convert an ONNX file, its metadata included.

    Args:
        onnx_file: The file.
        xml: The graph to write, ending in .xml; the tensors go into .bin beside it.
        half: Keep the weights in float16.
    """
    import openvino

    # Not openvino.convert_model: it would send the maker's statistics over the network.
    openvino.save_model(openvino.Core().read_model(onnx_file), xml, compress_to_fp16=half)
