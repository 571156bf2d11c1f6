"""FC-DenseNet: the paper's layers, widths and number of weights, logits of any size."""

import pytest
import torch
from networks import picture
from torch import nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.fcdensenet import DenseBlock, Doubling, FCDenseNet

pytestmark = pytest.mark.usefixtures("same_weights")


def small(**more):
    return FCDenseNet(**{"growth": 4, "layers": 2, "stem_width": 8, **more})


def test_layers_and_weights_are_those_of_the_paper():
    with torch.device("meta"):
        model = FCDenseNet()
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 67
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(3.5, abs=0.05)  # table 3


def test_widths_and_strides_of_the_blocks():
    found = {}
    with torch.device("meta"):
        model = FCDenseNet().eval()
        for name, block in model.named_modules():
            if isinstance(block, DenseBlock):
                block.register_forward_hook(
                    lambda _, inputs, out, name=name: found.update({name: (inputs[0].shape[1], *out.shape[1:])})
                )
        model(torch.zeros(1, 3, 64, 96))
    assert model.stride == 32
    assert found == {
        "down.0": (48, 80, 64, 96),
        "down.1": (128, 80, 32, 48),
        "down.2": (208, 80, 16, 24),
        "down.3": (288, 80, 8, 12),
        "down.4": (368, 80, 4, 6),
        "bottleneck": (448, 80, 2, 3),
        "up.0": (528, 80, 4, 6),
        "up.1": (448, 80, 8, 12),
        "up.2": (368, 80, 16, 24),
        "up.3": (288, 80, 32, 48),
        "up.4": (208, 80, 64, 96),
    }
    assert model.head.in_channels == 288


def test_each_layer_of_a_block_reads_everything_before_it():
    block = DenseBlock(6, 4, 3, 0.2).eval()
    x = torch.randn(1, 6, 5, 7)
    with torch.no_grad():
        new = block(x)
        first, second, third = new.split(4, dim=1)
        assert torch.equal(block.layers[0](x), first)
        assert torch.equal(block.layers[1](torch.cat([x, first], dim=1)), second)
        assert torch.equal(block.layers[2](torch.cat([x, first, second], dim=1)), third)


def test_doubling_drops_the_last_row_and_column():
    double = Doubling(3)
    x = torch.randn(1, 3, 2, 5)
    with torch.no_grad():
        whole = F.conv_transpose2d(x, double.weight, double.bias, stride=2)
        assert whole.shape == (1, 3, 5, 11)
        assert torch.equal(double(x), whole[:, :, :4, :10])


def test_any_size_gives_logits_and_evaluation_is_repeatable():
    model = small().eval()
    nn.init.constant_(model.head.bias, -50)  # far from what a sigmoid could give
    with torch.no_grad():
        for height, width in ((1, 1), (33, 65), (64, 32)):
            logits = model(picture(height, width))
            assert logits.shape == (1, 1, height, width)
            assert (logits < -25).all()
            assert torch.equal(model(picture(height, width)), logits)


def test_learning_reaches_every_parameter():
    model = small(dropout=0.0).train()
    model(picture(65, 96, batch=2)).square().mean().backward()
    # The next batch norm takes a convolution's bias off again, so that its gradient is only rounding noise.
    convolutions = {key for key, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)}
    idle = {f"{key}.bias" for key in convolutions - {"head"}}
    certain = {key: value for key, value in model.named_parameters() if key not in idle}
    assert not [key for key, value in certain.items() if value.grad is None or not value.grad.any()]


def test_dropout_follows_every_convolution_of_the_blocks_and_ways_down():
    with torch.device("meta"):
        model = FCDenseNet(dropout=0.3)
    rates = [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout2d)]
    assert rates == [0.3] * (11 * 5 + 5)


def test_weights_start_he_uniform_and_biases_at_zero():
    model = FCDenseNet()
    for layer in (model.stem, model.down[4].layers[0][2], model.bottleneck.layers[4][2]):
        bound = (6 / layer.weight[0].numel()) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": True}, "FC-DenseNet has no ImageNet weights .*--no-pretrained"),
        ({"growth": 0}, "growth is 0, expected a whole number from 1"),
        ({"layers": 2.5}, "layers is 2.5, expected a whole number from 1"),
        ({"stem_width": -1}, "stem_width is -1, expected a whole number from 1"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a share from 0"),
        ({"dropout": -0.1}, "dropout is -0.1, expected a share from 0"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(UsageError, match=message):
        FCDenseNet(**arguments)
