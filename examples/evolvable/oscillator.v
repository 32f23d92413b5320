// An oscillator to be evolved: eight lookup tables decide how fast it runs, and where in its turn.
//
// A phase of 16 bits grows by `step` at every clock; its top bit is the output on pin ICE_27. Each
// bit of `step` comes from a lookup table that looks at the top four bits of the phase, so a turn has
// sixteen sectors, each run through at a speed of its own: the truth tables (8 × 16 bits) are the
// genome. All ones is the fastest, 187 kHz; a step of zero in any sector stops it.
module top #(parameter [127:0] TABLES = {128{1'b1}}) (input CLK, output ICE_27);
    reg [15:0] phase = 0;
    wire [7:0] step;
    genvar i;
    generate
        for (i = 0; i < 8; i = i + 1) begin : tables
            (* keep *) SB_LUT4 #(.LUT_INIT(TABLES[16 * i +: 16])) lut (
                .O(step[i]), .I0(phase[12]), .I1(phase[13]), .I2(phase[14]), .I3(phase[15])
            );
        end
    endgenerate
    always @(posedge CLK) phase <= phase + step;
    assign ICE_27 = phase[15];
endmodule
