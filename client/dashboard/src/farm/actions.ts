/** What people can have done: requests to control, with what is said when it is done. */

import * as v from "valibot";
import { Reservation } from "../bus/messages";
import type { Requests } from "../bus/requests";
import { ADMIN, OPERATION } from "../bus/topics";
import { duration } from "../format";

const ReservationReply = v.object({ reservation: Reservation });
const DevicesChanged = v.object({ serials: v.array(v.string()) });
const WorkerChanged = v.object({ worker: v.string(), reservations: v.array(v.string()) });

export class Actions {
  constructor(private readonly requests: Requests) {}

  async extend(reservation: string, seconds: number): Promise<string> {
    await this.ask("extend", { reservation, duration: seconds }, v.unknown());
    return `Extended by ${duration(seconds * 1000)}.`;
  }

  async release(reservation: string): Promise<string> {
    await this.ask("end", { reservation }, ReservationReply);
    return `Reservation ${reservation} has ended.`;
  }

  async rebootHeld(reservation: string, serials: string[]): Promise<string> {
    await this.ask("reboot", { reservation, serials }, ReservationReply);
    return `Rebooting ${serials.join(", ")}.`;
  }

  async accept(reservation: string): Promise<string> {
    await this.ask("accept", { reservation }, ReservationReply);
    return `Reservation ${reservation} is yours.`;
  }

  async decline(reservation: string): Promise<string> {
    await this.ask("decline", { reservation }, ReservationReply);
    return "Declined.";
  }

  async endAnybodys(reservation: string, reason: string): Promise<string> {
    await this.order("end", { reservation, reason }, ReservationReply);
    return `Reservation ${reservation} has ended.`;
  }

  async onDevices(
    operation: "reboot" | "reflash" | "quarantine" | "unquarantine",
    serials: string[],
    reason: string,
  ): Promise<string> {
    const changed = await this.order(operation, { serials, reason }, DevicesChanged);
    if (changed.serials.length === 0) return "Nothing had to be changed.";
    return `${operation}: ${changed.serials.join(", ")}.`;
  }

  async onWorker(operation: "drain" | "undrain", worker: string, reason: string): Promise<string> {
    const { reservations } = await this.order(operation, { worker, reason }, WorkerChanged);
    if (operation === "undrain") return `${worker} gets reservations again.`;
    if (reservations.length === 0) return `${worker} is drained: nothing is reserved there.`;
    return `${worker} drains; ${reservations.length} of its reservations go on.`;
  }

  private ask<T extends v.GenericSchema>(
    operation: string,
    args: Record<string, unknown>,
    answer: T,
  ): Promise<v.InferOutput<T>> {
    return this.requests.ask(OPERATION, { operation }, "control", args, answer);
  }

  private order<T extends v.GenericSchema>(
    operation: string,
    args: Record<string, unknown>,
    answer: T,
  ): Promise<v.InferOutput<T>> {
    return this.requests.ask(ADMIN, { operation }, "control", args, answer);
  }
}
