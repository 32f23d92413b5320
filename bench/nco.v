// A numerically controlled oscillator: pulses at 48 MHz * step / 65536 on pin ICE_27.
//
// The step stands in sixteen lookup tables that nothing drives, so one placed and routed circuit
// becomes any of 32,767 by editing their truth tables in the bitstream. nco.json says which of its
// bits those are; it was made by building this with one bit of the step set after the other:
//
//   yosys -q -p 'synth_ice40 -top top -json nco.json' nco.v
//   nextpnr-ice40 -q --up5k --package sg48 --seed 1 --json nco.json --pcf pulse.pcf --asc nco.asc
//   icepack nco.asc nco.bin
module top #(parameter [15:0] STEP = 0) (input CLK, output ICE_27);
    wire [15:0] step;
    genvar i;
    generate
        for (i = 0; i < 16; i = i + 1) begin : bits
            (* keep *) SB_LUT4 #(.LUT_INIT({16{STEP[i]}})) lut (
                .O(step[i]), .I0(1'b0), .I1(1'b0), .I2(1'b0), .I3(1'b0)
            );
        end
    endgenerate
    reg [15:0] phase = 0;
    always @(posedge CLK) phase <= phase + step;
    assign ICE_27 = phase[15];
endmodule
