// A phase accumulator: 13797.4 Hz.
module top (input CLK, output ICE_27);
    reg [31:0] phase = 0;
    always @(posedge CLK) phase <= phase + 32'd1234567;
    assign ICE_27 = phase[31];
endmodule
