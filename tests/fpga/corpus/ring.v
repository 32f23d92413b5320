// A ring oscillator: a loop of gates that does not.
module top (input CLK, output ICE_27);
    wire [4:0] w;
    genvar i;
    generate
        for (i = 0; i < 5; i = i + 1) begin : stage
            SB_LUT4 #(.LUT_INIT(16'h5555)) inv (
                .I0(w[(i+4)%5]), .I1(1'b0), .I2(1'b0), .I3(1'b0), .O(w[i])
            );
        end
    endgenerate
    assign ICE_27 = w[0];
endmodule
