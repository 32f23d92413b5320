// A single-port RAM without a clock.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    wire [15:0] q;
    always @(posedge CLK) c <= c + 1;
    SB_SPRAM256KA ram (
        .ADDRESS({4'd0, c}), .DATAIN(16'd0), .MASKWREN(4'd0), .WREN(1'b0), .CHIPSELECT(1'b1),
        .CLOCK(1'b0), .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1), .DATAOUT(q)
    );
    assign ICE_27 = c[9] ^ q[3];
endmodule
