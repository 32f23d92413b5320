// The clock, for half of the time.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    reg open = 0;
    always @(posedge CLK) c <= c + 1;
    always @(negedge CLK) open <= c[9];
    assign ICE_27 = CLK & open;
endmodule
