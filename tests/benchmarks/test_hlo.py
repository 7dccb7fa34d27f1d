"""`benchmarks/hlo.py` against formulas."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.hlo import Cost, Rates, costs_of, parse

# Shapes as in XLA's own text; attributes that the parser does not read are left out.
GPU = """HloModule jit_step, is_scheduled=true

%fused_bits (param_0.1: u32[1024,64]) -> u32[1024,64] {
  %param_0.1 = u32[1024,64]{1,0} parameter(0)
  %shift.1 = u32[1024,64]{1,0} shift-left(%param_0.1, %param_0.1)
  ROOT %xor.1 = u32[1024,64]{1,0} xor(%shift.1, %param_0.1)
}

ENTRY %main.1 (images: bf16[1024,224,224,3]) -> bf16[] {
  %images = bf16[1024,224,224,3]{3,2,1,0} parameter(0)
  %kernel = bf16[64,7,7,3]{3,2,1,0} parameter(1)
  %cudnn-conv.1 = (bf16[1024,112,112,64]{3,2,1,0}, u8[16]{0}) custom-call(%images, %kernel), window={size=7x7}, \
custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/layer1_0/conv1"}
  %features = bf16[1024,112,112,64]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %cudnn-conv.2 = (bf16[1024,224,224,3]{3,2,1,0}, u8[0]{0}) custom-call(%features, %kernel), window={size=7x7}, \
custom_call_target="__cudnn$convBackwardInput"
  %cudnn-conv.3 = (bf16[64,7,7,3]{3,2,1,0}, u8[0]{0}) custom-call(%images, %features), window={size=7x7}, \
custom_call_target="__cudnn$convBackwardFilter"
  %rows = bf16[802816,64]{1,0} parameter(2)
  %columns = bf16[64,128]{1,0} parameter(3)
  %gemm.1 = (bf16[802816,128]{1,0}, s8[0]{0}) custom-call(%rows, %columns), custom_call_target="__cublas$lt$matmul", \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %query = bf16[1024,198,12,64]{3,2,1,0} parameter(4)
  %fmha.1 = (bf16[1024,12,198,64]{3,1,2,0}, u8[0]{0}) custom-call(%query, %query, %query), \
custom_call_target="__cudnn$fmhaSoftmax"
  %fmha.2 = (bf16[1024,12,198,64]{3,1,2,0}, u8[0]{0}) custom-call(%query, %query, %query), \
custom_call_target="__cudnn$fmhaSoftmaxBackward"
  %bits = u32[1024,64]{1,0} parameter(5)
  ROOT %fusion.1 = u32[1024,64]{1,0} fusion(%bits), kind=kLoop, calls=%fused_bits
}
"""
CONVOLUTION = 2 * 1024 * 112 * 112 * 64 * 7 * 7 * 3
IMAGES, FEATURES, KERNEL = 2 * 1024 * 224 * 224 * 3, 2 * 1024 * 112 * 112 * 64, 2 * 64 * 7 * 7 * 3
PRODUCT = 2 * 1024 * 12 * 198 * 198 * 64
QUERY, BITS = 2 * 1024 * 198 * 12 * 64, 4 * 1024 * 64


@pytest.fixture(scope="module")
def executed():
    return dict(costs_of(*parse(GPU)))


@pytest.mark.parametrize(
    "name, expected",
    [
        # cuDNN's workspace counts as bytes.
        ("cudnn-conv.1", Cost(CONVOLUTION, IMAGES + KERNEL + FEATURES + 16, 0)),
        ("cudnn-conv.2", Cost(CONVOLUTION, IMAGES + KERNEL + FEATURES, 0)),
        ("cudnn-conv.3", Cost(CONVOLUTION, IMAGES + KERNEL + FEATURES, 0)),
        ("gemm.1", Cost(2 * 802816 * 64 * 128, 2 * (802816 * 64 + 64 * 128 + 802816 * 128), 0)),
        ("fmha.1", Cost(2 * PRODUCT, 4 * QUERY, 0)),
        ("fmha.2", Cost(5 * PRODUCT, 4 * QUERY, 0)),
        ("fusion.1", Cost(0, 2 * BITS, 2 * 1024 * 64)),
    ],
)
def test_cost_of_each_kernel_follows_from_its_shapes(executed, name, expected):
    assert executed[name] == expected


def test_costs_leave_out_parameters_and_tuple_elements(executed):
    assert [name for name in executed if not name.startswith(("cudnn", "gemm", "fmha", "fusion"))] == []


def test_cost_seconds_are_those_of_the_slowest_part():
    rates = Rates(flops=100.0, bandwidth=10.0, integers=1.0)
    assert [cost.seconds(rates) for cost in (Cost(700, 10, 1), Cost(100, 60, 1), Cost(100, 10, 5))] == [7.0, 6.0, 5.0]


def test_costs_of_a_loop_body_count_once_per_iteration():
    def turns(x, kernels):
        return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]

    compiled = jax.jit(turns).lower(jnp.ones((8, 16)), jnp.ones((5, 16, 16))).compile()
    executed = list(costs_of(*parse(compiled.as_text())))
    assert sum(cost.flops for _, cost in executed) == 5 * 2 * 8 * 16 * 16
