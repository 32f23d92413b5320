import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { closeReason, pause, refusal } from "./bus/reasons";
import { duration, figure, percent } from "./format";
import { link, parseRoute, VIEWS } from "./route";

describe("given the address of a view", () => {
  test("when it is made and read, then it names the same", () => {
    const params = fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), fc.string({ minLength: 1 }));
    const id = fc.string({ minLength: 1 }).filter((each) => !/[\ud800-\udfff]/.test(each));
    fc.assert(
      fc.property(fc.constantFrom(...VIEWS), id, params, (view, about, given) => {
        const route = parseRoute(link(view, about, given));
        expect(route.view).toBe(view);
        expect(route.id).toBe(about);
        expect({ ...Object.fromEntries(route.params) }).toEqual({ ...given });
      }),
    );
  });

  test.each(["", "#", "#/", "#/nowhere", "#/%", "#wall=token"])(
    "when it is %j, then it is the farm",
    (fragment) => expect(parseRoute(fragment).view).toBe("farm"),
  );
});

describe("given numbers", () => {
  test.each([
    [-5, "0 s"],
    [59_999, "59 s"],
    [61_000, "1 min 1 s"],
    [600_000, "10 min"],
    [3_600_000, "1 h"],
    [3_900_000, "1 h 5 min"],
    [4 * 86_400_000, "4 d"],
  ])("when %i ms are told, then they are %s", (milliseconds, text) => {
    expect(duration(milliseconds)).toBe(text);
  });

  test.each([
    [null, "–"],
    [Number.NaN, "–"],
    [0, "0"],
    [7992, "7,992"],
    [12.3456, "12.35"],
    [0.00001234, "1.23e-5"],
  ])("when %d is told, then it is %s", (value, text) => expect(figure(value)).toBe(text));

  test("when a share is small but something, then it is not told as nothing", () => {
    expect(percent(0.004)).toBe("0.4 %");
    expect(percent(0)).toBe("0 %");
    expect(percent(null)).toBe("–");
  });
});

describe("given a connection that ended", () => {
  test("when the password was wrong, then no further attempt is made", () => {
    expect(refusal(0x86)).toContain("password");
    expect(refusal(0x88)).toBeNull();
    expect(refusal(undefined)).toBeNull();
  });

  test("when the server says why, then that is told", () => {
    expect(closeReason(4001, "connection refused")).toBe("connection refused");
    expect(closeReason(4001, "")).toContain("broker");
    expect(closeReason(4999, "")).toContain("4999");
  });

  test("when it is tried again, then within 1 to 5 s", () => {
    fc.assert(
      fc.property(fc.nat(50), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, random) => {
        const milliseconds = pause(attempt, () => random);
        expect(milliseconds).toBeGreaterThanOrEqual(1000);
        expect(milliseconds).toBeLessThanOrEqual(5000);
      }),
    );
  });
});
