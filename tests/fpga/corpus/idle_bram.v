// A block RAM whose read port has no clock; a counter writes to it.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    wire [15:0] q;
    always @(posedge CLK) c <= c + 1;
    SB_RAM40_4K ram (
        .RDATA(q), .RADDR(11'd0), .RCLK(1'b0), .RCLKE(1'b1), .RE(1'b1),
        .WADDR({1'b0, c}), .WDATA({16{c[3]}}), .MASK(16'd0), .WCLK(CLK), .WCLKE(1'b1), .WE(1'b1)
    );
    assign ICE_27 = c[9] ^ q[3];
endmodule
