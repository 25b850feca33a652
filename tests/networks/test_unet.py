"""The one U-Net: homogeneous without biases, for any size, and made as its numbers say."""

from dataclasses import replace

import pytest
import torch

from napari_qsm.networks.unet import Architecture, ScaleNorm, UNet

SMALL = Architecture(inputs=2, widths=(4, 8, 16))


def network(architecture=SMALL, seed=0):
    torch.manual_seed(seed)
    return UNet(architecture).eval()


def volumes(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def departure(model, factor, inputs):
    """How far the output for scaled inputs is from the scaled output, relative to it."""
    expected = factor * model(inputs)
    return float((model(factor * inputs) - expected).norm() / expected.norm())


@pytest.mark.parametrize("factor", [1e-3, 0.3, 50.0])
@pytest.mark.parametrize("norm", ["none", "scale"])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
def test_without_biases_it_is_positively_homogeneous(norm, upsampling, factor):
    architecture = replace(SMALL, norm=norm, upsampling=upsampling, heads=(1, 3))
    model = network(architecture)
    for layer in model.modules():
        if isinstance(layer, ScaleNorm):
            layer.square.uniform_(0.2, 5.0)
    assert architecture.homogeneous
    assert departure(model, factor, volumes(1, 2, 16, 12, 8)) < 1e-5


def test_it_is_not_odd():
    assert departure(network(), -1.0, volumes(1, 2, 8, 8, 8)) > 0.1


def test_biases_break_it():
    architecture = replace(SMALL, bias=True)
    assert not architecture.homogeneous
    assert departure(network(architecture), 0.1, volumes(1, 2, 8, 8, 8)) > 0.01


def test_batch_normalisation_breaks_it():
    architecture = replace(SMALL, norm="batch")
    model = network(architecture)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.running_mean.uniform_(-0.5, 0.5)
    assert not architecture.homogeneous
    assert departure(model, 0.1, volumes(1, 2, 8, 8, 8)) > 0.01


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 13, 5), (1, 17, 4), (16, 3, 2)])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@torch.no_grad()
def test_what_comes_out_has_the_size_of_what_goes_in(shape, upsampling):
    model = network(replace(SMALL, upsampling=upsampling))
    assert model(volumes(2, 2, *shape)).shape == (2, 1, *shape)


@torch.no_grad()
def test_a_size_that_does_not_divide_is_continued_with_zeros():
    model, inputs = network(), volumes(1, 2, 9, 7, 8)
    padded = torch.zeros(1, 2, 12, 8, 8)
    padded[..., :9, :7, :] = inputs
    assert torch.equal(model(inputs), model(padded)[..., :9, :7, :])


@torch.no_grad()
def test_volumes_of_a_batch_do_not_meet():
    model, inputs = network(), volumes(3, 2, 8, 8, 8)
    alone = torch.cat([model(one[None]) for one in inputs])
    assert torch.allclose(model(inputs), alone, atol=1e-6)


@torch.no_grad()
def test_a_shift_by_the_coarsest_voxel_shifts_the_output():
    model = network()
    assert model.coarsest == 4
    inputs = torch.zeros(1, 2, 96, 8, 8)
    inputs[..., 44:52, :, :] = volumes(1, 2, 8, 8, 8)
    moved = model(inputs.roll(4, dims=2))
    assert torch.allclose(moved, model(inputs).roll(4, dims=2), atol=1e-6)


@torch.no_grad()
def test_two_heads_share_one_encoder():
    model = network(replace(SMALL, heads=(1, 3)))
    inputs = volumes(1, 2, 8, 8, 8)
    before = model(inputs)
    assert before.shape[1] == 4
    model.decoders[1].head.weight.mul_(2)
    after = model(inputs)
    assert torch.equal(after[:, :1], before[:, :1])
    assert torch.allclose(after[:, 1:], 2 * before[:, 1:])
    model.encoder[0][0].weight.mul_(-1)
    assert not torch.allclose(model(inputs)[:, :1], before[:, :1])


def parameters(architecture):
    with torch.device("meta"):
        return sum(p.numel() for p in UNet(architecture).parameters())


def test_it_has_as_many_parameters_as_its_numbers_make():
    # Convolutions of 3^3 down (1-16-16, -32-32, -64-64, -128-128) and up, 2^3 between, 1^3 at last.
    down = 27 * (16 + 16**2 + 16 * 32 + 32**2 + 32 * 64 + 64**2 + 64 * 128 + 128**2)
    up = 27 * (128 * 64 + 64**2 + 64 * 32 + 32**2 + 32 * 16 + 16**2)
    between = 8 * (128 * 64 + 64 * 32 + 32 * 16)
    assert parameters(Architecture()) == down + up + between + 16
    assert parameters(Architecture(heads=(1, 1))) == down + 2 * (up + between + 16)


def test_published_sizes_are_met():
    qsmnet = Architecture(widths=(32, 64, 128, 256, 512), norm="batch", bias=True)
    assert parameters(qsmnet) == pytest.approx(22.6e6, rel=0.01)
    assert parameters(replace(qsmnet, heads=(1, 1))) == pytest.approx(31.0e6, rel=0.02)


@torch.no_grad()
def test_scale_normalisation_divides_by_the_root_mean_square_and_shifts_nothing():
    layer = ScaleNorm(2, momentum=0.25)
    features = volumes(2, 2, 4, 4, 4) * torch.tensor([3.0, 0.1]).view(1, 2, 1, 1, 1) + 1.0
    square = features.square().mean(dim=(0, 2, 3, 4))
    expected = features / square.sqrt().view(1, 2, 1, 1, 1)
    assert torch.allclose(layer(features), expected, atol=1e-6)
    assert torch.allclose(layer.square, 0.75 + 0.25 * square)
    assert layer(torch.zeros(1, 2, 2, 2, 2)).abs().max() == 0
    layer.eval()
    remembered = layer.square.clone()
    assert torch.allclose(layer(features), features / remembered.sqrt().view(1, 2, 1, 1, 1))
    assert torch.equal(layer.square, remembered)


@torch.no_grad()
def test_nearest_upsampling_of_a_constant_is_constant_and_transposed_is_not():
    def spread(upsampling):
        up = network(replace(SMALL, upsampling=upsampling)).decoders[0].ups[0]
        output = up(torch.ones(1, 16, 4, 4, 4))
        return float(output.std(dim=(2, 3, 4)).max())

    assert spread("nearest") < 1e-6
    assert spread("transposed") > 1e-3


def test_a_network_without_steps_down_is_a_stack_of_convolutions():
    model = network(Architecture(widths=(4,), convolutions=3))
    assert model.coarsest == 1
    assert len([m for m in model.modules() if isinstance(m, torch.nn.Conv3d)]) == 4
