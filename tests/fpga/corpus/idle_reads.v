// A block RAM that has a clock and is never read.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    wire [15:0] q;
    always @(posedge CLK) c <= c + 1;
    SB_RAM40_4K ram (
        .RDATA(q), .RADDR({1'b0, c}), .RCLK(CLK), .RCLKE(1'b1), .RE(1'b0),
        .WADDR(11'd0), .WDATA(16'd0), .MASK(16'd0), .WCLK(1'b0), .WCLKE(1'b1), .WE(1'b0)
    );
    assign ICE_27 = c[9] ^ q[3];
endmodule
