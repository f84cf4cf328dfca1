"""Vectors of 16 lanes in LLVM's language, for kernels that say exactly in which order they add.

A compiler that vectorizes a loop by itself may sum in another order on another machine, or for another number of rows;
here each addition is spelled out, so the bits are the same everywhere. LLVM cuts the 16 lanes into the registers that
the machine has: one of AVX-512, two of AVX2, four of NEON.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16
F32, I8, I16, I32, I64 = ir.FloatType(), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOATS = ir.VectorType(F32, LANES)
INTS = ir.VectorType(I32, LANES)

Value = Any  # llvmlite's values carry no static types


def index(number: int) -> Value:
    """A constant of the type that offsets have."""
    return ir.Constant(I64, number)


def constant(number: float) -> Value:
    """The same float in all lanes."""
    return ir.Constant(FLOATS, [number] * LANES)


def int_constant(number: int) -> Value:
    """The same integer in all lanes."""
    return ir.Constant(INTS, [number] * LANES)


@dataclass(frozen=True)
class Array:
    """A flat array that a kernel was called with."""

    emit: "Emitter"
    data: Value
    element: Any
    """Its type, one of numba's."""

    def at(self, *terms: Value | tuple[Value, int]) -> Value:
        """A pointer to the element at the sum of offsets; a pair is an offset times a constant."""
        return self.emit.at(self.data, *terms)


class Emitter:
    """Writes the instructions of one kernel."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def offset(self, *terms: Value | tuple[Value, int]) -> Value:
        """The sum of offsets; a pair is an offset times a constant."""
        total = index(0)
        for term in terms:
            product = self.builder.mul(term[0], index(term[1])) if isinstance(term, tuple) else term
            total = self.builder.add(total, product)
        return total

    def at(self, pointer: Value, *terms: Value | tuple[Value, int]) -> Value:
        """A pointer moved on by the sum of offsets."""
        return self.builder.gep(pointer, [self.offset(*terms)])

    def number(self, pointer: Value, element: Any = F32) -> Value:
        """The one element at a pointer, which may lie anywhere."""
        return self.builder.load(self.builder.bitcast(pointer, element.as_pointer()), align=_bytes(element) // 2 or 1)

    def load(self, pointer: Value, element: Any = F32, lanes: int = LANES) -> Value:
        """The `lanes` elements from a pointer on."""
        size = 4 if element == F32 else element.width // 8
        return self.builder.load(self.builder.bitcast(pointer, ir.VectorType(element, lanes).as_pointer()), align=size)

    def store(self, vector: Value, pointer: Value) -> None:
        """Write a vector from a pointer on."""
        place = self.builder.bitcast(pointer, vector.type.as_pointer())
        self.builder.store(vector, place, align=_bytes(vector.type.element))

    def splat(self, scalar: Value, lanes: int = LANES) -> Value:
        """A scalar in all lanes."""
        nothing = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, ir.Constant(I32, 0))
        return self.shuffle(first, [0] * lanes)

    def shuffle(self, vector: Value, order: Sequence[int]) -> Value:
        """The lanes of a vector in another order."""
        lanes = ir.Constant(ir.VectorType(I32, len(order)), list(order))
        return self.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """The product of a and b plus c, rounded once."""
        name = "llvm.fma.f32" if a.type == F32 else "llvm.fma.v16f32"
        return self.call(name, a, b, c)

    def sqrt(self, scalar: Value) -> Value:
        """The square root of a scalar."""
        return self.call("llvm.sqrt.f32", scalar)

    def absolute(self, a: Value) -> Value:
        """Each lane without its sign."""
        return self.call("llvm.fabs.v16f32", a)

    def nearest(self, a: Value) -> Value:
        """Each lane rounded to the nearest whole number, to the even one of two."""
        return self.call("llvm.rint.v16f32", a)

    def smaller(self, a: Value, b: Value) -> Value:
        """The smaller of two whole numbers, or in each lane."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def larger(self, a: Value, b: Value) -> Value:
        """The larger of two numbers in each lane."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def larger_whole(self, a: Value, b: Value) -> Value:
        """The larger of two whole numbers in each lane."""
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def largest(self, start: Value, end: Value, load: Callable[[Value], Value]) -> Value:
        """The largest of the numbers without their signs that `load` gives for places from `start` to `end`; or NaN."""
        b = self.builder

        def find(place: Value, found: Sequence[Value]) -> list[Value]:  # by their bits, of which NaN has the largest
            return [self.larger_whole(b.bitcast(self.absolute(load(place)), INTS), found[0])]

        (most,) = self.loop(start, end, LANES, [int_constant(0)], find)
        return b.bitcast(self.across(self.larger_whole, most), F32)

    def call(self, name: str, *arguments: Value) -> Value:
        """One of LLVM's own functions, whose arguments and result are all of one type."""
        kind = ir.FunctionType(arguments[0].type, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def call_nothing(self, name: str) -> None:
        """A function of LLVM's or of the system's without arguments, whose result doesn't matter."""
        kind = ir.FunctionType(ir.VoidType(), [])
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [])

    def prefetch(self, pointer: Value) -> None:
        """Ask for the cache line at a pointer, which may lie anywhere, to be read into the second cache."""
        bytes_ = self.builder.bitcast(pointer, I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [bytes_.type, I32, I32, I32])
        prefetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        self.builder.call(prefetch, [bytes_, ir.Constant(I32, 0), ir.Constant(I32, 2), ir.Constant(I32, 1)])

    def across(self, combine: Callable[[Value, Value], Value], vector: Value) -> Value:
        """All lanes combined to one scalar, halves first: lane i with lane i + 8, then i + 4, and so on."""
        for half in (8, 4, 2, 1):
            order = [(lane + half) % LANES for lane in range(LANES)]
            vector = combine(vector, self.shuffle(vector, order))
        return self.builder.extract_element(vector, ir.Constant(I32, 0))

    def first_lanes(self, at: Value, end: Value) -> Value:
        """Which lanes of the vector at offset `at` lie before offset `end`, as a mask."""
        left = self.builder.trunc(self.builder.sub(end, at), I32)
        lanes = ir.Constant(INTS, list(range(LANES)))
        return self.builder.icmp_signed("<", lanes, self.splat(left))

    def exp(self, x: Value) -> Value:
        """Powers e**x of numbers up to 88, to 2 units in the last place; 0 below -87. By Cephes' polynomial."""
        b = self.builder
        tiny = b.fcmp_ordered("<", x, constant(-87.0))
        x = b.select(tiny, constant(-87.0), x)
        whole = self.nearest(b.fmul(x, constant(1.44269504088896341)))
        rest = self.fma(whole, constant(-0.693359375), x)
        rest = self.fma(whole, constant(2.12194440e-4), rest)
        value = constant(1.9875691500e-4)
        for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            value = self.fma(value, rest, constant(factor))
        value = self.fma(value, b.fmul(rest, rest), b.fadd(rest, constant(1.0)))
        power = b.shl(b.add(b.fptosi(whole, INTS), int_constant(127)), int_constant(23))
        return b.select(tiny, constant(0.0), b.fmul(value, b.bitcast(power, FLOATS)))

    def loop(
        self,
        start: Value,
        end: Value,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, Sequence[Value]], Sequence[Value]],
    ) -> list[Value]:
        """For place in range(start, end, step): carried = body(place, carried). Gives the last carried values."""
        b = self.builder
        before = b.block
        head, inside, after = (b.append_basic_block(name) for name in ("loop.head", "loop.body", "loop.end"))
        b.branch(head)
        b.position_at_end(head)
        place = b.phi(I64)
        place.add_incoming(start, before)
        merged = []
        for value in carried:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            merged.append(phi)
        b.cbranch(b.icmp_signed("<", place, end), inside, after)
        b.position_at_end(inside)
        results = body(place, merged)
        place.add_incoming(b.add(place, index(step)), b.block)
        for phi, result in zip(merged, results, strict=True):
            phi.add_incoming(result, b.block)
        b.branch(head)
        b.position_at_end(after)
        return merged


def _bytes(element: Any) -> int:
    return 4 if element == F32 else int(element.width) // 8


def kernel(returns: Any = types.void) -> Callable[[Callable[..., Value]], Any]:
    """Make a function that numba's code can call of one that writes instructions.

    That function is given an Emitter and then what the kernel is called with: arrays as Array, whole numbers as 64-bit
    integers, others as 32-bit floats.
    """

    def decorate(write: Callable[..., Value]) -> Any:
        def typed(_typing: Any, *given: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
                emit = Emitter(builder)
                wrapped = [
                    Array(emit, context.make_array(kind)(context, builder, value).data, kind.dtype)
                    if isinstance(kind, types.Array)
                    else value
                    for kind, value in zip(signature.args, arguments, strict=True)
                ]
                result = write(emit, *wrapped)
                return context.get_dummy_value() if returns is types.void else result

            return returns(*map(_kind, given)), code

        typed.__name__, typed.__doc__ = write.__name__, write.__doc__
        named = inspect.signature(write)
        typing = inspect.Parameter("_typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        typed.__signature__ = named.replace(parameters=[typing, *list(named.parameters.values())[1:]])  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


def _kind(given: Any) -> Any:
    if isinstance(given, types.Array):
        return given
    return types.float32 if isinstance(given, types.Float) else types.int64
