"""Circuits in Verilog that nobody wrote: many small ones in one bitstream, drawn from a seed.

The counted pin shows them one after the other, each for ``WINDOW`` clock cycles; so one run of the
tools and of another simulator compares them all.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

CIRCUITS = 16
WINDOW = 1024
"""Clock cycles that each is shown for."""

Body = Callable[[Random], str]


def counter(random: Random) -> str:
    width = random.randint(2, 12)
    last = random.randrange(1, 1 << width)
    step = f"c {random.choice('+-')} {random.randrange(1, 1 << width)}"
    shown = random.choice([f"c[{random.randrange(width)}]", f"c < {random.randrange(1 << width)}"])
    return f"""
    reg [{width - 1}:0] c = 0;
    always @(posedge CLK) if (c == {last}) c <= 0; else c <= {step};
    assign y = {shown};"""


def feedback_register(random: Random) -> str:
    size = random.randint(3, 14)
    taps = sorted(random.sample(range(size), min(size, random.randint(2, 4))))
    feedback = " ^ ".join(f"s[{tap}]" for tap in taps)
    return f"""
    reg [{size - 1}:0] s = 0;
    always @(posedge CLK) s <= {{s[{size - 2}:0], ~({feedback})}};
    assign y = s[{size - 1}];"""


def enabled(random: Random) -> str:
    fast, slow = random.randint(2, 5), random.randint(2, 6)
    return f"""
    reg [{fast - 1}:0] e = 0;
    reg [{slow - 1}:0] c = 0;
    always @(posedge CLK) begin
        e <= e + 1;
        if (e == {random.randrange(1 << fast)}) c <= c + {random.randrange(1, 1 << slow)};
    end
    assign y = c[{slow - 1}];"""


def reset(random: Random) -> str:
    width = random.randint(3, 8)
    value = random.choice(["0", f"{width}'d{random.randrange(1 << width)}"])
    edge = random.choice(["posedge CLK", "posedge CLK or posedge r"])
    return f"""
    reg [9:0] t = 0;
    reg r = 0;
    reg [{width - 1}:0] c = 0;
    always @(posedge CLK) begin
        t <= t + {random.randrange(1, 999, 2)};
        r <= t < {random.randrange(20, 300)};
    end
    always @({edge}) if (r) c <= {value}; else c <= c + 1;
    assign y = c[{width - 1}];"""


def ripple(random: Random) -> str:
    size = random.randint(2, 9)
    edges = [random.choice(["posedge", "negedge"]) for _ in range(size)]
    stages = "\n".join(
        f"    always @({edge} {f'q[{i - 1}]' if i else 'CLK'}) q[{i}] <= ~q[{i}];"
        for i, edge in enumerate(edges)
    )
    return f"""
    reg [{size - 1}:0] q = 0;
{stages}
    assign y = q[{size - 1}];"""


def own_clock(random: Random) -> str:
    divisor, width = random.randint(1, 4), random.randint(1, 5)
    return f"""
    reg [{divisor - 1}:0] d = 0;
    reg [{width - 1}:0] c = 0;
    always @(posedge CLK) d <= d + 1;
    always @({random.choice(["posedge", "negedge"])} d[{divisor - 1}])
        c <= c + {random.randrange(1, 1 << width, 2)};
    assign y = c[{width - 1}];"""


def shifted(random: Random) -> str:
    size = random.randint(2, 20)
    return f"""
    reg [4:0] c = 0;
    reg [{size - 1}:0] s = 0;
    always @(posedge CLK) begin
        c <= c + {random.randrange(1, 32)};
        s <= {{s[{size - 2}:0], c[4] ^ c[{random.randrange(4)}]}};
    end
    assign y = s[{size - 1}] {random.choice("&|^")} s[{random.randrange(size)}];"""


def arithmetic(random: Random) -> str:
    width = random.randint(4, 12)
    a, b = (random.randrange(1, 1 << width) for _ in range(2))
    operation = random.choice(["a < b", "a == b", "a > b", "a - b < a", "^(a + b)", "a[1] ^ b[2]"])
    return f"""
    reg [{width - 1}:0] a = 0, b = 0;
    reg r = 0;
    always @(posedge CLK) begin
        a <= a + {a};
        b <= b - {b};
        r <= {operation};
    end
    assign y = r;"""


def gated(random: Random) -> str:
    width = random.randint(2, 6)
    return f"""
    reg [{width - 1}:0] c = 0;
    reg open = 0;
    always @(posedge CLK) c <= c + {random.randrange(1, 1 << width, 2)};
    always @(negedge CLK) open <= c[{width - 1}];
    assign y = CLK & open;"""


def falling(random: Random) -> str:
    width = random.randint(1, 7)
    return f"""
    reg [{width - 1}:0] c = 0;
    reg h = 0;
    always @(negedge CLK) c <= c + 1;
    always @(posedge CLK) h <= c[{width - 1}];
    assign y = c[{width - 1}] {random.choice("&|^")} h;"""


KINDS: tuple[Body, ...] = (
    counter,
    feedback_register,
    enabled,
    reset,
    ripple,
    own_clock,
    shifted,
    arithmetic,
    gated,
    falling,
)
ONE_CLOCK: tuple[Body, ...] = (counter, feedback_register, enabled, shifted, arithmetic)


def design(seed: int, kinds: tuple[Body, ...] = KINDS) -> tuple[str, list[str]]:
    """Verilog of ``CIRCUITS`` circuits behind one pin, and the kind of each."""
    random = Random(seed)
    chosen = [kinds[i % len(kinds)] for i in range(CIRCUITS)]
    random.shuffle(chosen)
    modules = [
        f"module c{i} (input CLK, output y);{body(random)}\nendmodule\n"
        for i, body in enumerate(chosen)
    ]
    wires = "\n".join(f"    c{i} circuit_{i} (CLK, y[{i}]);" for i in range(CIRCUITS))
    bits = (WINDOW * CIRCUITS - 1).bit_length()
    top = f"""module top (input CLK, output ICE_27);
    wire [{CIRCUITS - 1}:0] y;
    reg [{bits - 1}:0] t = 0;
    always @(posedge CLK) t <= t + 1;
{wires}
    assign ICE_27 = y[t[{bits - 1}:{bits - (CIRCUITS - 1).bit_length()}]];
endmodule
"""
    return "\n".join([*modules, top]), [body.__name__ for body in chosen]
