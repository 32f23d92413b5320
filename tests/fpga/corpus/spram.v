// Reads the big RAM.
module top (input CLK, output ICE_27);
    reg [13:0] a = 0;
    wire [15:0] q;
    always @(posedge CLK) a <= a + 1;
    SB_SPRAM256KA ram (
        .ADDRESS(a), .DATAIN(16'h1), .MASKWREN(4'hf), .WREN(a[0]), .CHIPSELECT(1'b1), .CLOCK(CLK),
        .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1), .DATAOUT(q)
    );
    assign ICE_27 = q[2];
endmodule
